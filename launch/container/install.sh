#!/usr/bin/env bash
# Installs the project into an image of Ubuntu or Debian: both recipes beside this file run it, as root, while they build.
# Usage: install.sh SOURCES. The environment is /opt/smoe; TORCH_INDEX names the package index that PyTorch is taken from.
set -euo pipefail

sources="$1"
export DEBIAN_FRONTEND=noninteractive PIP_NO_CACHE_DIR=1

# A compiler and Python's headers: DeepSpeed compiles its Adam at first use. Open MPI: what mpi4py looks for.
apt-get update
apt-get install -y --no-install-recommends build-essential git openmpi-bin python3-dev python3-venv
rm -rf /var/lib/apt/lists/*

python3 -m venv /opt/smoe
# PyTorch first and by itself: what follows would take another build of it.
/opt/smoe/bin/pip install --index-url "${TORCH_INDEX:-https://pypi.org/simple}" "$(grep '^torch==' "$sources/requirements.txt")"
/opt/smoe/bin/pip install -r "$sources/requirements.txt"
/opt/smoe/bin/pip install -e "$sources"
/opt/smoe/bin/smoe-ds --version
