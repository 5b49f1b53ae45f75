# Settings for NCCL and for PyTorch's use of it. Every rendered job with GPUs sources this file. Variables that are set
# already stay, so `NCCL_DEBUG=INFO sbatch job.sh` works. To use another file: `--nccl-env FILE`.
# shellcheck shell=bash

# What NCCL prints: warnings. If it is slow, look first at what INFO shows: which network and which rings it has chosen.
export NCCL_DEBUG="${NCCL_DEBUG:-WARN}"

# Interfaces over which NCCL ranks meet (and, without InfiniBand, send): all but loopback and those of containers. If
# your hosts have several networks, name the one that reaches all of them, e.g. NCCL_SOCKET_IFNAME=ib0.
export NCCL_SOCKET_IFNAME="${NCCL_SOCKET_IFNAME:-^lo,docker,virbr}"

# A collective that hangs, or that has lost a peer, ends its process instead of waiting on the GPU for ever. The run
# then names the cause. This is PyTorch's default; it is written here because the end of a broken run depends on it.
export TORCH_NCCL_ASYNC_ERROR_HANDLING="${TORCH_NCCL_ASYNC_ERROR_HANDLING:-1}"

# Not set, because the right value depends on the cluster:
# GLOO_SOCKET_IFNAME  interface for gloo, which runs on CPUs use; it must be a name, since gloo has no "all but".
# NCCL_IB_HCA         InfiniBand adapters to use, if some are for storage, e.g. mlx5_0,mlx5_1.
# NCCL_IB_DISABLE     1: send over TCP if InfiniBand is broken; slow, but it shows what is at fault.
# NCCL_P2P_DISABLE    1: send through the host if GPUs cannot reach each other (some virtual machines).
