#!/usr/bin/env bash
# Make the weights that `--method soma` uses without a model: render pairs,
# train on them on one CPU core, publish.
#
#   tools/train_default_soma.sh WORK_DIR
#
# WORK_DIR/soma_light-<sha256>.safetensors is what
# osar_plugin/weights/soma_light.safetensors is a copy of. An interrupted
# training goes on where it stopped.
set -euo pipefail

if [ $# -ne 1 ]; then
    echo "usage: $0 WORK_DIR" >&2
    exit 2
fi
work=$1
tools=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

"$python" "$tools/make_demo_data.py" "$work/land" --sets ospretrain \
    --land-size 256 --source-pairs 300 --unpaired 4
"$python" "$tools/train.py" \
    "$tools/../configs/demo/soma_light_ospretrain.py" \
    --data-root "$work/land/OSPretrain" --work-dir "$work/train" \
    --no-validate --resume \
    --cfg-options default_hooks.checkpoint.save_best=None
"$python" "$tools/publish_model.py" "$work/train" \
    "$work/soma_light.safetensors" --no-config
