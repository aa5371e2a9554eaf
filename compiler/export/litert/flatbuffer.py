"""A .tflite graph as it grows: tensors, constants and operators, and the bytes that they end in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import ArrayLike, NDArray

IDENTIFIER = b"TFL3"
_SCHEMA_VERSION = 3
_ALIGNMENT = 16
_SIGNATURE = b"serving_default"
_TYPES = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.float16): schema.TensorType.FLOAT16,
    np.dtype(np.int8): schema.TensorType.INT8,
    np.dtype(np.uint8): schema.TensorType.UINT8,
    np.dtype(np.int32): schema.TensorType.INT32,
}
_OPTIONS = {
    "ABS": "AbsOptions",
    "ADD": "AddOptions",
    "CONCATENATION": "ConcatenationOptions",
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "DEQUANTIZE": "DequantizeOptions",
    "DIV": "DivOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "MEAN": "ReducerOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "MUL": "MulOptions",
    "NEG": "NegOptions",
    "PAD": "PadOptions",
    "QUANTIZE": "QuantizeOptions",
    "REDUCE_MAX": "ReducerOptions",
    "RESHAPE": "ReshapeOptions",
    "SLICE": "SliceOptions",
    "SOFTMAX": "SoftmaxOptions",
    "SUB": "SubOptions",
    "SUM": "ReducerOptions",
}
"""The table that an operator's options are kept in; the others have none."""

# Versions of DEQUANTIZE by what it reads: older runtimes refuse what they would get wrong.
FROM_UINT8, FROM_INT8, FROM_HALF, FROM_CHANNELS = 1, 2, 3, 5


@dataclass(frozen=True)
class Quantization:
    """How a tensor's codes stand for floats: ``(code - zero_point) * scale``."""

    scale: float
    zero_point: int


@dataclass(frozen=True)
class Value:
    """A tensor: its place, its shape (channels last), and how its int8 codes are read (None: float32)."""

    tensor: int
    shape: tuple[int, ...]
    quantization: Quantization | None = None


class _AlignedBuffer(schema.BufferT):  # type: ignore[misc]  # the schema's module has no types
    """A buffer whose data lies at a multiple of 16 bytes, as the schema asks and its writer forgets."""

    def Pack(self, builder: Any) -> int:  # noqa: N802  # the schema's name
        """Write it; its place in the file."""
        data = None
        if self.data is not None:
            size = len(self.data)
            builder.StartVector(1, size, _ALIGNMENT)
            builder.head -= size
            builder.Bytes[builder.head : builder.head + size] = self.data.tobytes()
            data = builder.EndVector()
        schema.BufferStart(builder)
        if data is not None:
            schema.BufferAddData(builder, data)
        return int(schema.BufferEnd(builder))


class FlatbufferGraph:
    """One graph with one signature. ``halved``: float weights are stored in half precision."""

    def __init__(self, name: str, *, halved: bool = False) -> None:
        self._halved = halved
        self._model, self._graph, self._signature = (
            schema.ModelT(),
            schema.SubGraphT(),
            schema.SignatureDefT(),
        )
        self._model.version, self._model.description = _SCHEMA_VERSION, b"adaptive-video"
        # The first buffer is empty by convention: that of all tensors that are computed.
        self._model.buffers, self._model.operatorCodes = [_AlignedBuffer()], []
        self._model.subgraphs, self._model.signatureDefs = [self._graph], [self._signature]
        self._graph.name = name.encode()
        self._graph.tensors, self._graph.operators = [], []
        self._graph.inputs, self._graph.outputs = [], []
        self._signature.signatureKey, self._signature.subgraphIndex = _SIGNATURE, 0
        self._signature.inputs, self._signature.outputs = [], []
        self._kinds: dict[tuple[str, int], int] = {}
        self._constants: dict[str, int] = {}
        self._widened: dict[int, Value] = {}

    def bytes(self) -> bytes:
        """The file. The same graph gives the same bytes."""
        content = sum(len(buffer.data) for buffer in self._model.buffers if buffer.data is not None)
        builder = flatbuffers.Builder(content + (1 << 20))
        builder.Finish(self._model.Pack(builder), IDENTIFIER)
        return bytes(builder.Output())

    def input_tensor(self, name: str, shape: Sequence[int], quantization: Quantization | None = None) -> int:
        """An input: uint8 codes if they are quantized, else float32."""
        dtype = np.dtype(np.float32 if quantization is None else np.uint8)
        tensor = self._tensor(name, shape, dtype, quantization)
        self._graph.inputs.append(tensor)
        self._signature.inputs.append(_named(name, tensor))
        return tensor

    def output(self, name: str, value: Value) -> None:
        """Give ``value`` out as float32 under ``name``.

        Runtimes go by the names of tensors: one that is an input, or given out already, is copied.
        """
        value = self.floats(value)
        if value.tensor in (*self._graph.inputs, *self._graph.outputs):
            value = self.reshape(value, value.shape, name)
        self._graph.tensors[value.tensor].name = name.encode()
        self._graph.outputs.append(value.tensor)
        self._signature.outputs.append(_named(name, value.tensor))

    def value(self, name: str, shape: Sequence[int], quantization: Quantization | None = None) -> Value:
        """A tensor to be computed: int8 if it is quantized, else float32."""
        dtype = np.dtype(np.float32 if quantization is None else np.int8)
        return Value(self._tensor(name, shape, dtype, quantization), tuple(shape), quantization)

    def constant(
        self, name: str, array: ArrayLike, scales: NDArray[np.float32] | None = None, axis: int = 0
    ) -> int:
        """A constant, stored once by its name; ``scales`` (channels,) of codes, one along ``axis`` each."""
        if name not in self._constants:
            array = np.ascontiguousarray(array)
            buffer = _AlignedBuffer()
            buffer.data = np.frombuffer(array.tobytes(), np.uint8)
            self._model.buffers.append(buffer)
            tensor = self._tensor(name, array.shape, array.dtype, None)
            self._graph.tensors[tensor].buffer = len(self._model.buffers) - 1
            if scales is not None:
                self._graph.tensors[tensor].quantization = _quantization(
                    scales, np.zeros(len(scales), np.int64), axis
                )
            self._constants[name] = tensor
        return self._constants[name]

    def integers(self, values: Sequence[int] | Sequence[Sequence[int]]) -> int:
        """A constant array of int32, such as a shape or axes."""
        return self.constant(f"integers{list(values)}", np.array(values, np.int32))

    def number(self, value: float) -> int:
        """A constant float (1,)."""
        return self.constant(f"number{float(value)}", np.array([value], np.float32))

    def weight(self, name: str, array: NDArray[Any]) -> int:
        """A float weight; one that is stored in half precision is widened when the graph is opened."""
        if not self._halved:
            return self.constant(name, array.astype(np.float32))
        half = self.constant(name, array.astype(np.float16))
        return self.dequantized(half, name, array.shape, FROM_HALF)

    def dequantized(self, tensor: int, name: str, shape: Sequence[int], version: int) -> int:
        """Tensor of the floats (``shape``) that ``tensor`` stands for."""
        if tensor not in self._widened:
            self._widened[tensor] = self.value(f"{name}_float", shape)
            self.operator("DEQUANTIZE", [tensor], [self._widened[tensor].tensor], version)
        return self._widened[tensor].tensor

    def floats(self, value: Value) -> Value:
        """``value`` in float32."""
        if value.quantization is None:
            return value
        tensor = self.dequantized(value.tensor, f"tensor{value.tensor}", value.shape, FROM_INT8)
        return Value(tensor, value.shape)

    def quantized(self, value: Value, name: str, quantization: Quantization) -> Value:
        """``value`` as int8 codes."""
        codes = self.value(name, value.shape, quantization)
        self.operator("QUANTIZE", [value.tensor], [codes.tensor])
        return codes

    def reshape(self, value: Value, shape: Sequence[int], name: str) -> Value:
        """``value`` in another shape of the same size."""
        reshaped = self.value(name, shape, value.quantization)
        inputs = [value.tensor, self.integers(shape)]
        self.operator("RESHAPE", inputs, [reshaped.tensor], newShape=np.array(shape, np.int32))
        return reshaped

    def operator(
        self, kind: str, inputs: Sequence[int], outputs: Sequence[int], version: int = 1, **options: Any
    ) -> None:
        """Append an operator; ``options`` are fields of its options table by the schema's names."""
        operator = schema.OperatorT()
        operator.opcodeIndex = self._kind(kind, version)
        operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
        if kind in _OPTIONS:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, _OPTIONS[kind])
            operator.builtinOptions = getattr(schema, f"{_OPTIONS[kind]}T")()
            for field, value in options.items():
                setattr(operator.builtinOptions, field, value)
        self._graph.operators.append(operator)

    def _kind(self, kind: str, version: int) -> int:
        if (kind, version) not in self._kinds:
            code = schema.OperatorCodeT()
            code.builtinCode = getattr(schema.BuiltinOperator, kind)
            # Where runtimes from before there were more than 127 kinds look.
            code.deprecatedBuiltinCode = min(code.builtinCode, 127)
            code.version = version
            self._kinds[kind, version] = len(self._model.operatorCodes)
            self._model.operatorCodes.append(code)
        return self._kinds[kind, version]

    def _tensor(
        self, name: str, shape: Sequence[int], dtype: np.dtype[Any], quantization: Quantization | None
    ) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name.encode(), np.array(shape, np.int32), _TYPES[dtype]
        if quantization is not None:
            scale = np.array([quantization.scale], np.float32)
            zero_point = np.array([quantization.zero_point], np.int64)
            tensor.quantization = _quantization(scale, zero_point, 0)
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1


def _quantization(scales: NDArray[np.float32], zero_points: NDArray[np.int64], axis: int) -> Any:
    table = schema.QuantizationParametersT()
    table.scale, table.zeroPoint, table.quantizedDimension = scales, zero_points, axis
    return table


def _named(name: str, tensor: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name.encode(), tensor
    return entry
