# Environment of NCCL and of PyTorch's use of it, sourced by every rendered job with GPUs. What is set already stays, so
# that `NCCL_DEBUG=INFO sbatch job.sh` works; another file is taken with `--nccl-env FILE`.
# shellcheck shell=bash

# What NCCL says: warnings. INFO shows which network and which rings it has chosen: look there first when it is slow.
export NCCL_DEBUG="${NCCL_DEBUG:-WARN}"

# Interfaces over which NCCL meets (and sends, without InfiniBand): all but loopback and those of containers. Where hosts
# have several networks, name the one that reaches all of them, e.g. NCCL_SOCKET_IFNAME=ib0.
export NCCL_SOCKET_IFNAME="${NCCL_SOCKET_IFNAME:-^lo,docker,virbr}"

# A collective that hangs or whose peer has gone ends its process, which the run then names as the cause, instead of
# waiting on the GPU for ever. It is PyTorch's default; written here because the end of a broken run depends on it.
export TORCH_NCCL_ASYNC_ERROR_HANDLING="${TORCH_NCCL_ASYNC_ERROR_HANDLING:-1}"

# Not set, because the right value is the cluster's:
# GLOO_SOCKET_IFNAME  interface of gloo, which runs on a CPU use; a name, gloo knows no "all but".
# NCCL_IB_HCA         InfiniBand adapters to use, where some are for storage, e.g. mlx5_0,mlx5_1.
# NCCL_IB_DISABLE     1 sends over TCP where InfiniBand is there and broken; slow, but tells what is at fault.
# NCCL_P2P_DISABLE    1 sends through the host where GPUs cannot reach each other (some virtual machines).
