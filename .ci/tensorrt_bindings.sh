#!/usr/bin/env bash
# The Python bindings of several TensorRT versions, unpacked side by side: the tests of the API contract read them.
#   .ci/tensorrt_bindings.sh FOLDER && export GRAPHPRESS_TENSORRT_BINDINGS=FOLDER
# Only the bindings, about a megabyte each: the libraries themselves are not needed. What is there already stays.
set -euo pipefail

versions=(10.3.0 10.9.0.34 10.13.3.9 11.4.0.106)
python="${PYTHON:-python3}"
folder="${1:?give the folder to unpack into}"
mkdir -p "$folder"

wheels="$(mktemp -d)"
trap 'rm -rf "$wheels"' EXIT
for version in "${versions[@]}"; do
    [ -d "$folder/$version/tensorrt_bindings" ] && continue
    "$python" -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: \
        --dest "$wheels" "tensorrt-cu12-bindings==$version"
    "$python" -m zipfile -e "$wheels"/tensorrt_cu12_bindings-"$version"-*.whl "$folder/$version"
done
