#!/usr/bin/env bash
# cxx_with_pch.sh ARGUMENTS: the C++ compiler, which reads PyTorch's headers
# only once for all files that are compiled with the same options.
#
# Each of mmcv's files spends three quarters of its time on torch/types.h. GCC
# takes them from a precompiled header instead; where it finds the options
# differ it reads the header itself, so the objects are the same.
#
#   PCH        folder of the precompiled header
#   PCH_CXX    the compiler
set -euo pipefail
options=()
compiles=
skip=
for argument in "$@"; do
  if [[ $skip ]]; then skip=; continue; fi
  case $argument in
    -c) compiles=1 ;;
    -o | -MF) skip=1 ;;
    -MMD | -MD | *.cpp | *.o) ;;
    *) options+=("$argument") ;;
  esac
done
[[ $compiles ]] || exec "$PCH_CXX" "$@"
header=$PCH/torch_types.h
(
  flock 9  # the first of several compilers makes it, the others wait
  if [[ ! -e $header ]]; then
    echo '#include <torch/types.h>' > "$header"
    "$PCH_CXX" "${options[@]}" -x c++-header "$header" -o "$header.gch" ||
      rm -f "$header.gch"
  fi
) 9> "$PCH/lock"
exec "$PCH_CXX" -include "$header" "$@"
