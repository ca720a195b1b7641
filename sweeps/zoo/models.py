# SPDX-License-Identifier: GPL-3.0-or-later
"""The zoo's models: their shapes, runs, and torch modules that train them.

Parameter names are those of Hugging Face transformers' LlamaForCausalLM,
OPTForCausalLM and GPTNeoXForCausalLM, so that a state dict is a checkpoint;
the modules only leave out what training here does not need.
tests/python/test_train.py holds their logits against transformers'.
"""
import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

MAX_POSITIONS = 512
OPT_OFFSET = 2  # OPT's position table begins at row 2
EPS = 1e-5
ROPE_THETA = 10000.0
ROTARY_SHARE = 0.5  # of a head's dimensions that gpt_neox rotates
VOCAB = {"llama": 1024, "opt": 2048, "gpt_neox": 512}


@dataclass(frozen=True)
class Shape:
    """Sizes of a model, and how long and how fast it is trained."""
    family: str  # "llama", "opt" or "gpt_neox": the config's model_type
    width: int
    layers: int
    heads: int
    kv_heads: int
    d_ff: int
    epochs: int
    chunks: int  # of 512 tokens a step
    lr: float  # peak learning rate
    dropout: float  # on the embeddings and on what each half block adds
    seed: int


SHAPES = {
    #              width layers heads kv d_ff passes chunks lr dropout seed
    "llama-25k":  Shape("llama", 32, 2, 2, 1, 96, 20, 8, 1.2e-2, 0.0, 1),
    "llama-85k":  Shape("llama", 64, 2, 4, 2, 160, 14, 8, 8e-3, 0.0, 2),
    "llama-300k": Shape("llama", 96, 3, 6, 2, 256, 10, 8, 5e-3, 0.0, 3),
    "llama-1m":   Shape("llama", 160, 4, 5, 1, 416, 8, 8, 3e-3, 0.05, 4),
    "llama-3m":   Shape("llama", 256, 4, 8, 2, 768, 5, 4, 2e-3, 0.0, 5),
    "opt-25k":    Shape("opt", 32, 2, 2, 2, 128, 20, 8, 1.2e-2, 0.0, 11),
    "opt-85k":    Shape("opt", 64, 2, 4, 4, 192, 14, 8, 8e-3, 0.0, 12),
    "opt-300k":   Shape("opt", 96, 3, 6, 6, 320, 10, 8, 5e-3, 0.0, 13),
    "opt-1m":     Shape("opt", 160, 4, 5, 5, 480, 9, 8, 3e-3, 0.05, 14),
    "opt-3m":     Shape("opt", 256, 4, 8, 8, 1024, 5, 2, 1.5e-3, 0.0, 15),
    "neox-25k":   Shape("gpt_neox", 32, 2, 2, 2, 128, 3, 8, 1.2e-2, 0.0, 31),
    "neox-85k":   Shape("gpt_neox", 64, 2, 4, 4, 192, 6, 8, 8e-3, 0.0, 32),
    "neox-300k":  Shape("gpt_neox", 96, 3, 6, 6, 320, 4, 8, 5e-3, 0.0, 33),
}


# Rows that nobody has trained yet: `train.py NAME` does, but the zoo has none.
PLANNED = ("neox-300k",)


@dataclass(frozen=True)
class Run:
    """A run at a constant learning rate, and its checkpoints.

    A checkpoint is (passes, lr_state); "decayed" goes on from there with a
    learning rate that falls to zero.
    """
    model: str  # row of SHAPES; its rate is the constant, its seed is not used
    seed: int
    kept: tuple  # checkpoints in the zoo
    planned: tuple = ()  # checkpoints that training would add

    def name(self):
        return f"{self.model}-s{self.seed}"


def checkpoint(run, passes, lr_state):
    """Directory, below runs/, of a checkpoint of a run."""
    tail = "-decayed" if lr_state == "decayed" else ""
    return f"{run.name()}-p{passes:02d}{tail}"


STATES = ("constant", "decayed")
P01, P04, P16 = (tuple((passes, state) for state in STATES)
                 for passes in (1, 4, 16))
RUNS = {run.name(): run for run in (
    Run("llama-25k", 21, P01 + P04 + P16),
    Run("llama-25k", 22, P01 + P04 + P16),
    Run("llama-25k", 23, P01 + P04 + P16),
    Run("llama-85k", 21, P01 + P04 + P16[:1], P16[1:]),
    Run("llama-85k", 22, P01 + P04 + P16),
    Run("llama-85k", 23, P01 + P04, P16),
    Run("llama-300k", 21, P01 + P04, P16),
    Run("llama-1m", 21, (), P01),
)}


def config(shape):
    """config.json of a model, as a dict."""
    common = {
        "torch_dtype": "bfloat16", "transformers_version": "4.49.0",
        "vocab_size": VOCAB[shape.family], "hidden_size": shape.width,
        "num_hidden_layers": shape.layers, "num_attention_heads": shape.heads,
        "max_position_embeddings": MAX_POSITIONS, "bos_token_id": None,
        "eos_token_id": None, "pad_token_id": None,
    }
    if shape.family == "llama":
        return common | {
            "architectures": ["LlamaForCausalLM"], "model_type": "llama",
            "num_key_value_heads": shape.kv_heads,
            "head_dim": shape.width // shape.heads,
            "intermediate_size": shape.d_ff, "hidden_act": "silu",
            "rms_norm_eps": EPS, "rope_theta": ROPE_THETA,
            "attention_bias": False, "mlp_bias": False,
            "attention_dropout": 0.0, "tie_word_embeddings": False}
    if shape.family == "gpt_neox":
        return common | {
            "architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox",
            "intermediate_size": shape.d_ff, "hidden_act": "gelu",
            "layer_norm_eps": EPS, "rotary_pct": ROTARY_SHARE,
            "rotary_emb_base": ROPE_THETA, "use_parallel_residual": True,
            "attention_bias": True, "attention_dropout": 0.0,
            "hidden_dropout": 0.0, "tie_word_embeddings": True}
    return common | {
        "architectures": ["OPTForCausalLM"], "model_type": "opt",
        "ffn_dim": shape.d_ff, "activation_function": "relu",
        "word_embed_proj_dim": shape.width, "do_layer_norm_before": True,
        "enable_bias": True, "layer_norm_elementwise_affine": True,
        "dropout": 0.0, "attention_dropout": 0.0, "layerdrop": 0.0,
        "tie_word_embeddings": True}


def rotary_tables(dims):
    """cos and sin [MAX_POSITIONS, dims] of the half-split rotation."""
    inv = ROPE_THETA ** (-torch.arange(0, dims, 2).float() / dims)
    angle = torch.outer(torch.arange(MAX_POSITIONS).float(), inv)
    angle = torch.cat((angle, angle), dim=1)
    return angle.cos(), angle.sin()


def rotate(x, cos, sin):
    """Rotary embedding of x [batch, heads, tokens, dims]."""
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-b, a), dim=-1) * sin


def rotate_first(x, cos, sin):
    """The same of the first dimensions of x, as many as the tables have."""
    dims = cos.shape[-1]
    return torch.cat((rotate(x[..., :dims], cos, sin), x[..., dims:]), dim=-1)


def attend(q, k, v):
    """Causal attention, [batch, heads, tokens, head_dim]; float32 softmax."""
    if q.shape[-1] < 32:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    n = q.shape[2]  # from there on a third faster than torch's fused kernel
    score = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-1, -2)).float()
    score = score + torch.full((n, n), -math.inf).triu(1)
    return torch.matmul(score.softmax(-1).to(v.dtype), v)


class RmsNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        mean = x.pow(2).mean(-1, keepdim=True)
        return self.weight * (x * torch.rsqrt(mean + EPS))


class Attention(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.heads, self.kv_heads = shape.heads, shape.kv_heads
        self.head_dim = shape.width // shape.heads
        bias, kv = shape.family == "opt", shape.kv_heads * self.head_dim
        self.q_proj = nn.Linear(shape.width, shape.width, bias=bias)
        self.k_proj = nn.Linear(shape.width, kv, bias=bias)
        self.v_proj = nn.Linear(shape.width, kv, bias=bias)
        self.out_name = "out_proj" if bias else "o_proj"
        out = nn.Linear(shape.width, shape.width, bias=bias)
        self.add_module(self.out_name, out)

    def split(self, x, heads):
        return x.view(x.shape[0], x.shape[1], heads,
                      self.head_dim).transpose(1, 2)

    def forward(self, x, rope):
        q = self.split(self.q_proj(x), self.heads)
        k = self.split(self.k_proj(x), self.kv_heads)
        v = self.split(self.v_proj(x), self.kv_heads)
        if rope is not None:
            q, k = rotate(q, *rope), rotate(k, *rope)
        if self.kv_heads < self.heads:
            k = k.repeat_interleave(self.heads // self.kv_heads, dim=1)
            v = v.repeat_interleave(self.heads // self.kv_heads, dim=1)
        y = attend(q, k, v).transpose(1, 2).reshape(x.shape)
        return getattr(self, self.out_name)(y)


class Mlp(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.gate_proj = nn.Linear(shape.width, shape.d_ff, bias=False)
        self.up_proj = nn.Linear(shape.width, shape.d_ff, bias=False)
        self.down_proj = nn.Linear(shape.d_ff, shape.width, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class LlamaBlock(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.drop = shape.dropout
        self.input_layernorm = RmsNorm(shape.width)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = RmsNorm(shape.width)
        self.mlp = Mlp(shape)

    def forward(self, x, rope):
        y = self.self_attn(self.input_layernorm(x), rope)
        x = x + F.dropout(y, self.drop, self.training)
        y = self.mlp(self.post_attention_layernorm(x))
        return x + F.dropout(y, self.drop, self.training)


class OptBlock(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.drop = shape.dropout
        self.self_attn_layer_norm = nn.LayerNorm(shape.width, eps=EPS)
        self.self_attn = Attention(shape)
        self.final_layer_norm = nn.LayerNorm(shape.width, eps=EPS)
        self.fc1 = nn.Linear(shape.width, shape.d_ff)
        self.fc2 = nn.Linear(shape.d_ff, shape.width)

    def forward(self, x, rope):
        y = self.self_attn(self.self_attn_layer_norm(x), rope)
        x = x + F.dropout(y, self.drop, self.training)
        y = self.fc2(F.relu(self.fc1(self.final_layer_norm(x))))
        return x + F.dropout(y, self.drop, self.training)


class NeoxAttention(nn.Module):
    """q, k and v of each head together; some dimensions rotate."""

    def __init__(self, shape):
        super().__init__()
        self.heads = shape.heads
        self.query_key_value = nn.Linear(shape.width, 3 * shape.width)
        self.dense = nn.Linear(shape.width, shape.width)

    def forward(self, x, rope):
        batch, n, width = x.shape
        qkv = self.query_key_value(x).view(batch, n, self.heads, -1)
        q, k, v = qkv.transpose(1, 2).chunk(3, dim=-1)
        q, k = rotate_first(q, *rope), rotate_first(k, *rope)
        y = attend(q, k, v).transpose(1, 2).reshape(batch, n, width)
        return self.dense(y)


class NeoxMlp(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.dense_h_to_4h = nn.Linear(shape.width, shape.d_ff)
        self.dense_4h_to_h = nn.Linear(shape.d_ff, shape.width)

    def forward(self, x):
        return self.dense_4h_to_h(F.gelu(self.dense_h_to_4h(x)))


class NeoxBlock(nn.Module):
    """Attention and MLP side by side, each behind a norm of its own."""

    def __init__(self, shape):
        super().__init__()
        self.drop = shape.dropout
        self.input_layernorm = nn.LayerNorm(shape.width, eps=EPS)
        self.post_attention_layernorm = nn.LayerNorm(shape.width, eps=EPS)
        self.attention = NeoxAttention(shape)
        self.mlp = NeoxMlp(shape)

    def forward(self, x, rope):
        y = self.attention(self.input_layernorm(x), rope)
        z = self.mlp(self.post_attention_layernorm(x))
        return (x + F.dropout(y, self.drop, self.training)
                + F.dropout(z, self.drop, self.training))


class Llama(nn.Module):
    def __init__(self, shape):
        super().__init__()
        vocab = VOCAB["llama"]
        self.drop = shape.dropout
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(vocab, shape.width)
        self.model.layers = nn.ModuleList(
            LlamaBlock(shape) for _ in range(shape.layers))
        self.model.norm = RmsNorm(shape.width)
        self.lm_head = nn.Linear(shape.width, vocab, bias=False)
        cos, sin = rotary_tables(shape.width // shape.heads)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, ids):
        x = self.model.embed_tokens(ids)
        x = F.dropout(x, self.drop, self.training)
        rope = self.cos[:ids.shape[1]], self.sin[:ids.shape[1]]
        for block in self.model.layers:
            x = block(x, rope)
        return self.lm_head(self.model.norm(x))


class Opt(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.drop = shape.dropout
        self.model = nn.Module()
        self.model.decoder = decoder = nn.Module()
        decoder.embed_tokens = nn.Embedding(VOCAB["opt"], shape.width)
        decoder.embed_positions = nn.Embedding(MAX_POSITIONS + OPT_OFFSET,
                                               shape.width)
        decoder.layers = nn.ModuleList(
            OptBlock(shape) for _ in range(shape.layers))
        decoder.final_layer_norm = nn.LayerNorm(shape.width, eps=EPS)

    def forward(self, ids):
        d = self.model.decoder
        at = d.embed_positions.weight[OPT_OFFSET:OPT_OFFSET + ids.shape[1]]
        x = F.dropout(d.embed_tokens(ids) + at, self.drop, self.training)
        for block in d.layers:
            x = block(x, None)
        return F.linear(d.final_layer_norm(x), d.embed_tokens.weight)


class Neox(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.drop = shape.dropout
        self.gpt_neox = body = nn.Module()
        body.embed_in = nn.Embedding(VOCAB["gpt_neox"], shape.width)
        body.layers = nn.ModuleList(
            NeoxBlock(shape) for _ in range(shape.layers))
        body.final_layer_norm = nn.LayerNorm(shape.width, eps=EPS)
        dims = int(ROTARY_SHARE * (shape.width // shape.heads))
        cos, sin = rotary_tables(dims)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, ids):
        body = self.gpt_neox
        x = F.dropout(body.embed_in(ids), self.drop, self.training)
        rope = self.cos[:ids.shape[1]], self.sin[:ids.shape[1]]
        for block in body.layers:
            x = block(x, rope)
        return F.linear(body.final_layer_norm(x), body.embed_in.weight)


MODULES = {"llama": Llama, "opt": Opt, "gpt_neox": Neox}


def build(shape):
    """A model with initial weights drawn from torch's seeded generator.

    Linear layers: normal of variance 2 / (5 width), those that write to the
    residual stream divided by sqrt(2 layers); embeddings 0.05, positions 0.01.
    """
    model = MODULES[shape.family](shape)
    std = math.sqrt(0.4 / shape.width)
    outward = ("o_proj.weight", "out_proj.weight", "down_proj.weight",
               "fc2.weight", "dense.weight", "dense_4h_to_h.weight")
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "embed_tokens" in name or "embed_in" in name:
                p.normal_(0.0, 0.05)
            elif "embed_positions" in name:
                p.normal_(0.0, 0.01)
                p[:OPT_OFFSET] = 0.0
            elif p.dim() == 2:
                p.normal_(0.0, std)
                if name.endswith(outward):
                    p /= math.sqrt(2 * shape.layers)
            elif name.endswith("bias"):
                p.zero_()
    return model


def counts(model):
    """(parameters, parameters without embeddings, positions and head)."""
    total = inner = 0
    for name, p in model.named_parameters():
        total += p.numel()
        if "embed" not in name and "lm_head" not in name:
            inner += p.numel()
    return total, inner
