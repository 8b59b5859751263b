#!/usr/bin/env bash
# Runs cluster/onprem.yaml as it is meant, on one machine: `ray up` over ssh, a sweep on head and worker, `ray down`.
#
#     sudo bash tests/benchmarks/onprem_over_ssh.sh      # with the virtual environment's python first in PATH
#
# Two "machines", 10.9.0.1 and 10.9.0.2, each with process ids, network, home folder and /tmp/ray of its own (Linux
# namespaces): `ray stop` in the file reaches nothing else here. Needs root, openssh-server, rsync, iproute2, overlayfs.
set -euo pipefail
here=$(readlink -f "${BASH_SOURCE[0]}")
repository=$(dirname "$(dirname "$(dirname "$here")")")

machine() { # number: what one of them runs
    local number=$1 base=$ONPREM/m$1
    mkdir -p "$base"/{home/.ssh,ray,upper,work} /tmp/ray /run/sshd
    mount --bind "$base/home" /root
    mount --bind "$base/ray" /tmp/ray
    # The environment of this machine, so that `pip install -e` of the file changes a copy of it alone.
    mount -t overlay overlay -o "lowerdir=$VENV,upperdir=$base/upper,workdir=$base/work" "$VENV"
    ln -sfn "$VENV" /root/emodarts-env
    cp "$ONPREM/key" /root/.ssh/id_ed25519 && cp "$ONPREM/key.pub" /root/.ssh/authorized_keys
    chmod 700 /root /root/.ssh && chmod 600 /root/.ssh/*
    ip link set lo up
    for _ in $(seq 100); do ip link show "eth$number" > /dev/null 2>&1 && break; sleep 0.1; done
    ip addr add "10.9.0.$number/24" dev "eth$number" && ip link set "eth$number" up
    /usr/sbin/sshd -o "ListenAddress=10.9.0.$number" -o PermitRootLogin=yes -o StrictModes=no -o PidFile=none
}

both() { # the head's machine, which starts the other one inside of itself
    unshare --net --pid --mount --uts --fork --kill-child --mount-proc bash "$here" worker &
    sleep 1
    ip link add eth1 type veth peer name eth2 netns "$!"
    machine 1
    for _ in $(seq 100); do ssh-keyscan -T 1 10.9.0.2 2> /dev/null | grep -q . && break; sleep 0.2; done
    export PATH=$VENV/bin:$PATH HOME=/root RAY_USAGE_STATS_ENABLED=0
    cd "$repository"
    sed -e "s/head.example.org/10.9.0.1/; s/\[gpu1.example.org, gpu2.example.org\]/[10.9.0.2]/; s/^max_workers: 2/max_workers: 1/" \
        -e "s/ssh_user: emodarts/ssh_user: root/; s#=/shared/#=$ONPREM/shared/#" cluster/onprem.yaml > "$ONPREM/onprem.yaml"
    (umask 077 && ray get-auth-token --generate > /dev/null)
    ray up -y "$ONPREM/onprem.yaml"
    ray exec "$ONPREM/onprem.yaml" "for _ in \$(seq 60); do [ \$(ray status 2> /dev/null | grep -c '1 local.cluster.node') = 1 ] && break; sleep 2; done; ray status"
    ray exec "$ONPREM/onprem.yaml" "cd emodarts && python sweeps/run.py corpus=demo resources=auto sweep.trials=2 search.epochs=3 training.epochs=3 '~sweep.space.search.unrolled'"
    ray down -y "$ONPREM/onprem.yaml"
}

case ${1:-} in
    worker) machine 2 && exec sleep infinity ;;
    both) both ;;
    *)
        VENV=$(dirname "$(dirname "$(command -v ray)")")
        ONPREM=$(mktemp -d /tmp/onprem-XXXX)
        export VENV ONPREM
        ssh-keygen -q -t ed25519 -N '' -f "$ONPREM/key"
        mkdir -p "$ONPREM/shared/results" "$ONPREM/shared/corpora"
        unshare --net --pid --mount --fork --kill-child --mount-proc bash "$here" both
        rm -rf "$ONPREM"
        ;;
esac
