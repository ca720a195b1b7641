# SPDX-License-Identifier: GPL-3.0-or-later
"""The number formats as their own tools compute them, on x [rows, cols].

Each function takes a float32 tensor and a group (a number, "row" or "tensor")
and gives the dequantized tensor. `load` imports the parts of a tool that do
arithmetic, without the models around them. What a tool does on whole tensors
is given a group at a time.
"""
import importlib
import importlib.util
import pathlib
import sys
import sysconfig
import types

import numpy as np
import torch

SITE = pathlib.Path(sysconfig.get_paths()["purelib"])


def stub(name, path=None, **members):
    """A module of that name which has only these members."""
    module = types.ModuleType(name)
    module.__dict__.update(members)
    if path is not None:
        module.__path__ = [str(SITE / path)]
    sys.modules[name] = module
    return module


def load_dmx():
    """dmx.compressor.numerical.format of dmx-compressor."""
    for name in ("dmx", "dmx.compressor", "dmx.compressor.numerical",
                 "dmx.compressor.quant"):
        stub(name, name.replace(".", "/"))
    quant = importlib.import_module("dmx.compressor.quant.quant_function")
    for name in quant.__all__:
        setattr(sys.modules["dmx.compressor.quant"], name,
                getattr(quant, name))
    stub("dmx.compressor.numerical.onnx", BFPTypeEnum=None)
    return importlib.import_module("dmx.compressor.numerical.format")


def load_auto_round():
    """auto_round.data_type's modules int and nvfp."""
    stub("auto_round", "nowhere", envs=stub("auto_round.envs"))
    stub("auto_round.data_type", "nowhere")
    stub("auto_round.logger", logger=None)
    stub("auto_round.utils", logger=None, check_to_quantized=None,
         get_reciprocal=None, is_gaudi2=lambda: False)
    stub("auto_round.compressors", "nowhere")
    stub("auto_round.compressors.utils", is_nv_fp=None)
    stub("auto_round.data_type.gguf", _imatrix_handle_zero=None)
    for part in ("register", "utils", "int", "fp8", "nvfp"):
        name = f"auto_round.data_type.{part}"
        spec = importlib.util.spec_from_file_location(
            name, SITE / "auto_round/data_type" / f"{part}.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return (sys.modules["auto_round.data_type.int"],
            sys.modules["auto_round.data_type.nvfp"])


def by_group(x, group, function):
    """function on [n, width] tensors of whole groups and on short ones."""
    if group == "tensor":
        return function(x.reshape(1, -1)).reshape(x.shape)
    width = x.shape[1] if group == "row" else min(int(group), x.shape[1])
    return torch.cat([function(part.contiguous())
                      for part in x.split(width, 1)], 1)


# dmx-compressor

def dmx(shorthand, exact_log=False):
    """A shorthand with {k} for the block, as dmx casts it. exact_log: with
    log2 in float64, where floor(log2 x) is right."""
    module = load_dmx()

    def cast(x, group):
        def one(part):
            text = shorthand.replace("{k}", "{%d}" % part.shape[1])
            if exact_log:
                log2 = torch.log2
                torch.log2 = lambda t: torch.floor(log2(t.double())).float()
            try:
                return module.Format.from_shorthand(text).cast(part, -1)
            finally:
                if exact_log:
                    torch.log2 = log2
        return by_group(x, group, one)
    return cast


# microxcaling

def microxcaling_int(bits, rounding, dtype):
    """Its intN for any N: the elements' core with no exponent bits. In
    float64 (dtype) logarithm and rounding are exact."""
    from mx.elemwise_ops import _quantize_elemwise_core
    from mx.mx_ops import _shared_exponents

    def one(part):
        a = part.to(dtype)
        e = _shared_exponents(a, method="max", axes=[-1], ebits=0)
        e[e > 127] = float("NaN")
        e[e < -127] = -127
        most = (2 ** (bits - 1) - 1) / 2 ** (bits - 2)
        y = _quantize_elemwise_core(a / 2**e, bits, 0, most, round=rounding,
                                    allow_denorm=True, saturate_normals=True)
        return (y * 2**e).to(torch.float32)
    return lambda x, group: by_group(x, group, one)


def torchao_exponent(part, mode, bits):
    """Exponents of blocks [n, 1] by torchao's scale modes, for integers of
    that many bits: those of a float with as many mantissa bits (even: 3 to 5
    bits), or with the integers' largest value (rceil, whose logarithm is in
    float32 in the tool and in float64 here)."""
    from torchao.prototype.mx_formats import constants, mx_tensor
    from torchao.prototype.mx_formats.config import ScaleCalculationMode
    if mode == "rceil":
        most = part.abs().amax(1, keepdim=True)
        top = (2 ** (bits - 1) - 1) / 2 ** (bits - 2)
        biased, _ = mx_tensor._to_mx_rceil(part.double(), most.double(), top)
        return biased.double() - 127
    element, emax = {3: (torch.float4_e2m1fn_x2, 2),
                     4: (constants.DTYPE_FP6_E3M2, 4),
                     5: (constants.DTYPE_FP6_E2M3, 2)}[bits]
    width = part.shape[1]
    part = torch.nn.functional.pad(part, (0, -width % 32)).contiguous()
    scale, _ = mx_tensor.to_mx(part, element, part.shape[1],
                               ScaleCalculationMode[mode.upper()])
    return scale.view(torch.uint8).double().reshape(-1, 1) - 127 + emax


def torchao_int(bits, rounding, mode):
    """Integers of microxcaling under torchao's scales."""
    from mx.elemwise_ops import _quantize_elemwise_core

    def one(part):
        e = torchao_exponent(part, mode, bits)
        most = (2 ** (bits - 1) - 1) / 2 ** (bits - 2)
        y = _quantize_elemwise_core(part.double() / 2**e, bits, 0, most,
                                    round=rounding, allow_denorm=True,
                                    saturate_normals=True)
        return (y * 2**e).to(torch.float32)
    return lambda x, group: by_group(x, group, one)


# auto-round

def auto_round_int(kind, bits, scale_dtype, floor=1e-5, unknown=False):
    """kind: quant_tensor_sym, quant_tensor_sym_gptq or quant_tensor_asym.
    unknown: NaN for groups whose zero point is no code. Where a scale was
    rounded down, the tool's may be 2^bits, which `bits` bits do not hold."""
    module, _ = load_auto_round()
    function = getattr(module, kind)

    def one(part):
        y, _, zero = function(part, bits, -1, scale_dtype=scale_dtype,
                              q_scale_thresh=floor)
        if unknown:
            zero = torch.as_tensor(zero, dtype=y.dtype)
            y = torch.where(zero < 2**bits, y, torch.nan)
        return y
    return lambda x, group: by_group(x, group, one)


def auto_round_nvfp4(x, group):
    _, module = load_auto_round()
    scale = module.calculate_gparam(x)
    return by_group(x, group, lambda part: module.ref_nvfp4_quant(
        part, scale, part.shape[1])[0])


# torchao

def torchao_nvfp4(x, group):
    """nvfp4_quantize and NVFP4Tensor.dequantize for any width of a block: the
    tool's checks allow 16 only, its arithmetic any."""
    from torchao.prototype.mx_formats import nvfp4_tensor as nv
    scale = nv.per_tensor_amax_to_scale(x.abs().max())

    def one(part):
        rows, width = part.shape
        even = width + width % 2  # two codes a byte
        padded = torch.nn.functional.pad(part, (0, even - width))
        source = "block_size == 16", f"block_size == {even}"
        quantize = patched(nv, "nvfp4_quantize", *source)
        scales, data = quantize(padded.contiguous(), even, scale)
        values = nv.f4_unpacked_to_f32(nv.unpack_uint4(data.view(torch.uint8)))
        y = values.view(rows, even) * (scale * scales.float()).view(rows, 1)
        return y[:, :width]
    return by_group(x, group, one)


def patched(module, name, old, new):
    """A function of a module with one piece of its text replaced."""
    import inspect
    text = inspect.getsource(getattr(module, name))
    assert old in text
    scope = dict(module.__dict__)
    exec(text.replace(old, new), scope)
    return scope[name]


# bitsandbytes

def normal_map(bits, offset=0.9677083):
    """create_normal_map with 2^bits values instead of 16."""
    from scipy.stats import norm
    half = 2 ** (bits - 1)
    values = norm.ppf(torch.linspace(offset, 0.5, half + 1)[:-1]).tolist()
    values += [0]
    values += (-norm.ppf(torch.linspace(offset, 0.5, half)[:-1])).tolist()
    table = torch.Tensor(values).sort().values
    return table / table.max()


def codebook(name):
    """Values of nf2, nf3, nf4, af4, fp4_bnb."""
    import bitsandbytes.functional as functional
    if name in ("nf2", "nf3"):
        return normal_map(int(name[2]))
    return functional.get_4bit_type(name.removesuffix("_bnb"), "cpu")


def bitsandbytes_4bit(name, nested=None):
    """quantize_4bit and dequantize_4bit with the table of that name; groups
    as blocks. The tool divides a partial last block by its absmax where it
    multiplies whole ones by the reciprocal: here every block is whole.

    nested: None, "exact" (absmax as compress_statistics has it, codes by
    distance as on the GPU) or "lut" (by the CPU library's table of 2^16)."""
    import bitsandbytes.functional as functional
    from bitsandbytes.backends.default import ops
    table = codebook(name)

    def one(part):
        rows, width = part.shape
        even = torch.nn.functional.pad(part, (0, width % 2)).contiguous()
        known, ops._get_4bit_code = ops._get_4bit_code, lambda *_: table
        ops._get_4bit_quantize_bounds.cache_clear()
        packed, absmax = torch.ops.bitsandbytes.quantize_4bit.default(
            even, even.shape[1], name, torch.uint8)
        ops._get_4bit_code = known
        ops._get_4bit_quantize_bounds.cache_clear()
        codes = torch.stack((packed >> 4, packed & 15), -1).reshape(rows, -1)
        return table[codes.long()][:, :width], absmax

    def cast(x, group):
        if nested is None:
            def whole(part):
                values, absmax = one(part)
                return values * absmax[:, None]
            return by_group(x, group, whole)
        assert x.shape[1] % int(group) == 0
        values, absmax = one(x.reshape(-1, int(group)))
        # PyTorch's float32 mean depends on its threads and vector width
        offset = absmax.double().mean().float()
        deviation = absmax - offset
        if nested == "lut":
            q, state = functional.quantize_blockwise(deviation, blocksize=256)
            back = functional.dequantize_blockwise(q, state)
        else:
            back = nearest_blockwise(deviation, functional)
        return (values * (back + offset)[:, None]).reshape(x.shape)
    return cast


def nearest_blockwise(deviation, functional):
    """The `default` kernels of quantize_blockwise and back, with the
    reciprocal in a partial last run too, as on the GPU."""
    code = functional.create_dynamic_map()
    bounds = (code[:-1] + code[1:]) / 2
    out = []
    for run in deviation.split(256):
        most = run.abs().max()
        v = run * (1.0 / most.clamp(min=1e-38))
        q = torch.bucketize(v.clamp(-1, 1), bounds)
        out.append(code[q] * most)
    return torch.cat(out)


# The GPTQ reference and BitNet

def gptq_integer(quantizer, quantize, bits, sym, mse=False, trits=False):
    def one(part):
        q = quantizer()
        q.configure(bits, perchannel=True, sym=sym, mse=mse, trits=trits)
        q.find_params(part, weight=True)
        return quantize(part, q.scale, q.zero, q.maxq)
    return lambda x, group: by_group(x, group, one)


def bitnet(x, group):
    """weight_quant of BitNet b1.58 with the mean in float64, a group at a
    time: s = 1 / clamp(mean|w|, 1e-5), clamp(round(w s), -1, 1) / s."""
    def one(part):
        mean = part.double().abs().mean(1, keepdim=True).float()
        s = 1.0 / mean.clamp(min=1e-5)
        return (part * s).round().clamp(-1, 1) / s
    return by_group(x, group, one)


def versions(*packages, **more):
    from importlib.metadata import version
    out = {"torch": torch.__version__, "numpy": np.__version__}
    out.update({name: version(name) for name in packages})
    return {**out, **more}
