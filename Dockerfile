# The image of all nodes, on AWS (cluster/gpu.yaml) and Kubernetes (cluster/kuberay.yaml):
#
#     docker build -t REGISTRY/emodarts:0.2.0 . && docker push REGISTRY/emodarts:0.2.0
#
# Ray's image without CUDA: torch's wheels bring their own, the host its driver (580 or later for CUDA 13). It has rsync
# and wget, which `ray up` and KubeRay need, and runs as user ray (1000) in a home folder of its own.
FROM rayproject/ray:2.60.0-py311

# What NVIDIA's container runtime hands in, where the orchestrator does not say so.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility RAY_USAGE_STATS_ENABLED=0

# Packages first: a change of code then costs a small layer and no download. They are those of pyproject.toml and what
# encoders need; boto3 is Ray's way to AWS.
WORKDIR /home/ray/emodarts
COPY --chown=1000:100 pyproject.toml ./
RUN python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print(*project['dependencies'], *project['optional-dependencies']['encoders'], 'boto3', sep='\n')" > /tmp/packages.txt \
    && pip install --no-cache-dir -r /tmp/packages.txt

COPY --chown=1000:100 README.md LICENSE ./
COPY --chown=1000:100 emodarts ./emodarts
COPY --chown=1000:100 sweeps ./sweeps
COPY --chown=1000:100 cluster ./cluster
RUN pip install --no-cache-dir --no-deps -e . && emodarts-sweep --help > /dev/null
