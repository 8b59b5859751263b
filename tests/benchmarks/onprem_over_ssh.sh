#!/usr/bin/env bash
# Runs cluster/onprem.yaml as it is meant, on one machine: `ray up` over ssh, a sweep on head and worker, `ray down`.
#
#     sudo bash tests/benchmarks/onprem_over_ssh.sh      # with the virtual environment's python first in PATH
#
# Two "machines", 10.9.0.1 and 10.9.0.2, each with process ids, network, home folder and /tmp/ray of its own (Linux
# namespaces): `ray stop` in the file reaches nothing else here. Needs root, openssh-server, rsync, iproute2, overlayfs.
# Takes 5 to 10 minutes on 2 cores. What it showed stands in cluster/README.md.
set -euo pipefail
here=$(readlink -f "${BASH_SOURCE[0]}")
repository=$(dirname "$(dirname "$(dirname "$here")")")

machine() { # number: what one of them runs
    local number=$1 base=$ONPREM/m$1
    mkdir -p "$base"/{home/.ssh,home/.config/pip,ray,upper,work,python} /tmp/ray /run/sshd
    mount --bind "$PYTHON" "$base/python"
    mount --bind "$base/home" /root
    # The interpreter behind the virtual environment may be one of root's home, which has just been covered.
    test -d "$PYTHON" || { mkdir -p "$PYTHON" && mount --bind "$base/python" "$PYTHON"; }
    mount --bind "$base/ray" /tmp/ray
    # The environment of this machine, so that `pip install -e` of the file changes a copy of it alone.
    mount -t overlay overlay -o "lowerdir=$VENV,upperdir=$base/upper,workdir=$base/work" "$VENV"
    ln -sfn "$VENV" /root/emodarts-env
    cp "$ONPREM/key" /root/.ssh/id_ed25519 && cp "$ONPREM/key.pub" /root/.ssh/authorized_keys
    printf 'StrictHostKeyChecking no\nLogLevel ERROR\n' > /root/.ssh/config
    chmod 700 /root /root/.ssh && chmod 600 /root/.ssh/*
    # No way out of here: what `pip install -e` builds with lies in a folder, the packages are in the environment.
    printf '[global]\nno-index = true\nfind-links = %s\n' "$ONPREM/wheels" > /root/.config/pip/pip.conf
    touch /root/.bashrc
    ip link set lo up
    for _ in $(seq 100); do ip link show "eth$number" > /dev/null 2>&1 && break; sleep 0.1; done
    ip addr add "10.9.0.$number/24" dev "eth$number" && ip link set "eth$number" up
    ip route add default dev "eth$number" # a node's address is the one from which a way leads out
    /usr/sbin/sshd -o "ListenAddress=10.9.0.$number" -o PermitRootLogin=yes -o StrictModes=no -o PidFile=none
}

cluster() { # from the head: up, a sweep, down
    for _ in $(seq 100); do ssh-keyscan -T 1 10.9.0.2 2> /dev/null | grep -q . && break; sleep 0.2; done
    export PATH=$VENV/bin:$PATH HOME=/root TERM=dumb RAY_USAGE_STATS_ENABLED=0
    cd "$repository"
    sed -e "s/head.example.org/10.9.0.1/; s/\[gpu1.example.org, gpu2.example.org\]/[10.9.0.2]/; s/^max_workers: 2/max_workers: 1/" \
        -e "s/ssh_user: emodarts/ssh_user: root/; s#=/shared/#=$ONPREM/shared/#" cluster/onprem.yaml > "$ONPREM/onprem.yaml"
    (umask 077 && ray get-auth-token --generate > /dev/null)
    ray up -y "$ONPREM/onprem.yaml"
    ray exec "$ONPREM/onprem.yaml" "for _ in \$(seq 30); do ray status | grep -q '2 local.cluster.node' && break; sleep 1; done; ray status"
    ray exec "$ONPREM/onprem.yaml" "cd emodarts && python sweeps/run.py corpus=demo resources=auto system=emodarts sweep.trials=1 search.epochs=1 training.epochs=1"
    # A node copies the features when it is given its first unit.
    ssh 10.9.0.2 'echo "10.9.0.2 had units: its copy of the features is $(ls ~/.cache/emodarts/features)"'
    ray down -y "$ONPREM/onprem.yaml"
    local start=$SECONDS
    for _ in $(seq 90); do ssh 10.9.0.2 pgrep -r S,R raylet > /dev/null || break; sleep 2; done
    ssh 10.9.0.2 pgrep -r S,R raylet && { echo "Ray still runs on the worker" >&2; return 1; }
    echo "Ray on the worker ended $((SECONDS - start)) s after ray down"
}

apart() { # a role of this script in namespaces of its own
    exec unshare --net --pid --mount --uts --fork --kill-child --mount-proc bash "$here" "$1"
}

case ${1:-} in
    worker) machine 2 && exec sleep infinity ;;
    head) machine 1 && cluster ;;
    *)
        VENV=$(dirname "$(dirname "$(command -v ray)")")
        PYTHON=$("$VENV/bin/python" -c 'import sys; print(sys.base_prefix)')
        ONPREM=$(mktemp -d /tmp/onprem-XXXX)
        export VENV PYTHON ONPREM
        ssh-keygen -q -t ed25519 -N '' -f "$ONPREM/key"
        mkdir -p "$ONPREM/shared/results" "$ONPREM/shared/corpora"
        "$VENV/bin/pip" download -q -d "$ONPREM/wheels" 'setuptools>=77'
        apart worker &
        worker=$!
        # `unshare` waits for what it started and hears nothing milder; all that it started ends with it.
        trap 'kill -KILL "$worker" 2> /dev/null; wait "$worker" 2> /dev/null || true; rm -rf "$ONPREM"' EXIT
        apart head &
        head=$!
        sleep 1 # until both are apart
        ip link add eth1 netns "$head" type veth peer name eth2 netns "$worker"
        wait "$head"
        ;;
esac
