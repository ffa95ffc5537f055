#!/usr/bin/env bash
# build_ops.sh PYTHON FOLDER: mmcv's wheel with compiled operators, in FOLDER.
#
# Built once for a Python, a torch and an mmcv, whose versions name FOLDER's
# sub-folder, and printed as the last line. Not left to pip alone: it would
# build in an environment without torch, quietly without operators, and keep
# that wheel under the same name.
set -euo pipefail
python=$1
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mmcv=$(grep -oE '^(onedl-)?mmcv==.*' "$here/onedl.txt")
key=$("$python" -c 'import sys, torch, platform
print(f"cp{sys.version_info[0]}{sys.version_info[1]}-torch{torch.__version__}"
      f"-{platform.machine()}")')-${mmcv/==/}
folder=$2/$key
find_wheel() { find "$folder" -maxdepth 1 -name '*.whl' -print -quit; }
mkdir -p "$folder"
if [[ -z $(find_wheel) ]]; then
  work=$(mktemp -d -p "$folder")  # beside the goal: moved, not copied
  trap 'rm -rf "$work"' EXIT
  echo "compiling the operators of $mmcv (minutes)" >&2
  compiler=${CXX:-c++}
  # Whole outputs are compared: `grep -q` ends at its first match, and what
  # still writes to it then fails of a broken pipe, now and then.
  if [[ $("$compiler" --version) == *'Free Software Foundation'* ]]; then
    export PCH=$work PCH_CXX=$compiler
    export CXX=$here/cxx_with_pch.sh
  fi
  MMCV_WITH_OPS=1 MAX_JOBS=${MAX_JOBS:-$(nproc)} CFLAGS='-O2 -g0' \
    CXXFLAGS='-O2 -g0' PATH=$(dirname "$python"):$PATH \
    "$python" -m pip --disable-pip-version-check wheel -q --no-deps \
    --no-cache-dir --no-build-isolation --no-binary :all: \
    -w "$work/wheel" "$mmcv" >&2
  if [[ $("$python" -m zipfile -l "$work"/wheel/*.whl) != *mmcv/_ext* ]]; then
    echo "$mmcv was built without its operators: is there a C++ compiler?" >&2
    exit 1
  fi
  mv "$work"/wheel/*.whl "$folder/"
fi
find_wheel
