"""The kinds of file that a model can be exported as: how each is written, and opened to be verified."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from .answers import OUTPUTS, Answers, Prepared, can_resize
from .errors import MissingError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .predictor import Predictor
    from .transforms import ImageSpec

__all__ = ["FORMATS", "Format"]

OPSET = 18  # the first whose Resize can antialias
FLOAT = 1  # float32 among ONNX's types
ONNX_MODES = {"bilinear": "linear", "bicubic": "cubic"}


Answer = Callable[["NDArray[np.uint8]"], "tuple[NDArray[Any], ...]"]


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        suffix: of its name.
        check: raises `MissingError` where a library is missing.
        write: writes a model.
        open: returns what answers a uint8 batch ``(N, H, W, C)`` by `OUTPUTS`.
    """

    suffix: str
    check: Callable[[], None]
    write: Callable[[Predictor, Path], None]
    open: Callable[[Path], Answer]


def about(predictor: Predictor) -> dict[str, str]:
    """Return what somebody must know who has nothing but the file."""
    spec = predictor.spec
    size = "of any size" if can_resize(spec) else f"of {spec.size} x {spec.size} pixels, resized with {spec.fit}"
    images = f"uint8 (N, H, W, {spec.chans}), {'grey' if spec.chans == 1 else 'RGB'}, upright, {size}"
    calibration = predictor.calibration
    return {
        "made_by": f"ordage {version('ordage')}",
        "images": images,
        "preparation": json.dumps(spec.to_dict()),
        "outputs": json.dumps(OUTPUTS),
        "classes": json.dumps(predictor.classes.labels),
        "bins": json.dumps(predictor.bins.labels),
        "coverage": "" if calibration is None else f"{calibration.intervals.coverage:g}",
        "tta": predictor.model.tta,
    }


def _frozen(network: nn.Module) -> nn.Module:
    """Return a copy whose answers need no gradients; the predictor's own stays as it is."""
    return copy.deepcopy(network).eval().requires_grad_(False)


def _check_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingError(
            f"--format onnx needs {error.name}: pip install 'ordage[export]'; --format torch needs nothing"
        ) from None


def _write_onnx(predictor: Predictor, path: Path) -> None:
    import onnx

    spec = predictor.spec
    pixels = torch.zeros(2, spec.chans, spec.size, spec.size)
    program = torch.onnx.export(
        _frozen(Answers(predictor)),
        (pixels,),
        input_names=["pixels"],
        output_names=list(OUTPUTS),
        dynamic_shapes=({0: torch.export.Dim("images")},),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    assert program is not None  # it is only without `dynamo`
    net = program.model_proto
    prepare = onnx.parser.parse_model(_preparation(spec, net.ir_version))
    prepare = onnx.compose.add_prefix(prepare, "prepare_", rename_inputs=False, rename_outputs=False)
    whole = onnx.compose.merge_models(prepare, net, [("pixels", "pixels")])
    onnx.helper.set_model_props(whole, about(predictor))
    whole.doc_string = "uint8 images (N, H, W, C) to ages; made by ordage"
    for output in whole.graph.output:
        output.doc_string = OUTPUTS[output.name]
    onnx.checker.check_model(whole, full_check=True)
    onnx.save(whole, path)


def _preparation(spec: ImageSpec, ir_version: int) -> str:
    """Return the graph from ``(N, H, W, C)`` uint8 to the pixels that the model takes, in ONNX's own language.

    Written by hand, because torch's exporter has no uint8 images of any height and width to resize. The coefficient
    of a cubic is that of Pillow, and of torch where it antialiases.
    """
    sides = "H, W" if can_resize(spec) else f"{spec.size}, {spec.size}"
    crop = """
      shape = Shape <start = 1, end = 3> (images)
      side = ReduceMin <keepdims = 1> (shape)
      gap = Sub (shape, side)
      two = Constant <value_ints = [2]> ()
      begin = Div (gap, two)
      end = Add (begin, side)
      axes = Constant <value_ints = [1, 2]> ()
      square = Slice (images, begin, end, axes)
    """
    mode = ONNX_MODES.get(spec.interpolation, "")
    # On uint8, as in training: kernels of Pillow's kind round between the two axes. What lies outside has no weight.
    resize = f"""
      count = Shape <start = 0, end = 1> (images)
      sides = Constant <value_ints = [{spec.chans}, {spec.size}, {spec.size}]> ()
      sizes = Concat <axis = 0> (count, sides)
      resized = Resize <mode = "{mode}", cubic_coeff_a = -0.5, antialias = 1, exclude_outside = 1,
                        coordinate_transformation_mode = "half_pixel"> (planes, , , sizes)
    """
    return f"""
    <ir_version: {ir_version}, opset_import: ["" : {OPSET}]>
    prepare (uint8[N, {sides}, {spec.chans}] images) => (float[N, {spec.chans}, {spec.size}, {spec.size}] pixels) {{
      {crop if can_resize(spec) and spec.fit == "crop" else "square = Identity (images)"}
      planes = Transpose <perm = [0, 3, 1, 2]> (square)
      {resize if can_resize(spec) else "resized = Identity (planes)"}
      pixels = Cast <to = {FLOAT}> (resized)
    }}
    """


def _open_onnx(path: Path) -> Answer:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: tuple(session.run(list(OUTPUTS), {"images": images}))


def _write_torch(predictor: Predictor, path: Path) -> None:
    spec = predictor.spec
    side = spec.size + 8
    images = torch.zeros(2, side, side + 2, spec.chans, dtype=torch.uint8)
    dims: dict[int, Any] = {0: torch.export.Dim("images")}
    if can_resize(spec):
        dims |= {axis: torch.export.Dim(name) for axis, name in ((1, "height"), (2, "width"))}
    else:
        images = images[:, : spec.size, : spec.size]
    program = torch.export.export(_frozen(Prepared(Answers(predictor), spec)), (images,), dynamic_shapes=(dims,))
    torch.export.save(program, path, extra_files=about(predictor))


def _open_torch(path: Path) -> Answer:
    module = torch.export.load(path).module()

    @torch.inference_mode()
    def answer(images: NDArray[np.uint8]) -> tuple[NDArray[Any], ...]:
        return tuple(output.numpy() for output in module(torch.from_numpy(images)))

    return answer


FORMATS: dict[str, Format] = {
    "onnx": Format("onnx", _check_onnx, _write_onnx, _open_onnx),
    "torch": Format("pt2", lambda: None, _write_torch, _open_torch),
}
