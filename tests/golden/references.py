"""Networks of code bases that no package has alone, in plain PyTorch, for make_families.py: guided-diffusion's UNetModel (Dhariwal and Nichol 2021,
which improved-diffusion's is a part of), EDM's SongUNet and DhariwalUNet (Karras et al. 2022), the ConditionalUnet1D of Diffusion Policy (Chi et al.
2023) and LeRobot. Written anew from the papers and the published architectures, with the names of their state dicts."""

import math

import torch
import torch.nn.functional as F
from torch import nn


def call(case, model, x, t, extra):
    """The forward pass as each code base wants it, on [B, C, H, W]."""
    kind = case["class"]
    if kind == "ConditionalUnet1D":
        return model(x[:, :, 0], t, extra.get("global_cond"))[:, :, None]
    if kind == "DiTTransformer2DModel":
        return model(x, timestep=t, class_labels=extra["class_labels"]).sample
    if kind == "UNet2DConditionModel":
        added = {name: extra[name] for name in ("text_embeds", "time_ids") if name in extra}
        rest = {name: value for name, value in extra.items() if name not in added}
        return model(x, t, **rest, added_cond_kwargs=added or None).sample
    if kind == "GuidedDiffusionUNet" and "low_res" in extra:
        return model(x, t, extra.get("class_labels"), extra["low_res"])
    if kind == "AnnotatedUNet":
        return model(x, t, x_cdn=extra["image"])
    if kind == "DRUNet":
        return model(x, t)
    if kind == "DnCNN":
        return model(x)
    if kind == "FFDNet":
        return model(x, t[:, None, None, None])
    if kind == "UNet1DModel":
        return model(x[:, :, 0], t).sample[:, :, None]
    if kind == "DiffusionModelUNet":
        image = extra.get("image")
        x = x if image is None else torch.cat([x, image], 1)
        return model(x, t, context=extra.get("context"), class_labels=extra.get("class_labels"))
    if kind == "denoising_diffusion_pytorch.KarrasUnet":
        return model(x, t, class_labels=extra.get("class_labels"))
    if kind == "denoising_diffusion_pytorch.Unet1D":
        return model(x[:, :, 0], t)[:, :, None]
    if kind == "denoising_diffusion_pytorch.Unet":
        return model(x, t)
    return model(x, t, extra.get("class_labels"))


class KairDnCNN(nn.Sequential):
    """KAIR's DnCNN without batch norms, whose layers predict the noise."""
    def __init__(self, in_nc=1, out_nc=1, nc=64, nb=17, act_mode="R"):
        layers = [nn.Conv2d(in_nc, nc, 3, 1, 1)]
        for _ in range(nb - 2):
            layers += [nn.ReLU(), nn.Conv2d(nc, nc, 3, 1, 1)]
        super().__init__(*layers, nn.ReLU(), nn.Conv2d(nc, out_nc, 3, 1, 1))

    def forward(self, x):
        return x - super().forward(x)


def waves(t, dim, shift, cosines_first):
    half = dim // 2
    f = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float64) / (half - shift))
    a = t[:, None] * f[None]
    return torch.cat([a.cos(), a.sin()] if cosines_first else [a.sin(), a.cos()], 1)


def norm32(c):
    return nn.GroupNorm(32, c)


class AdmResampling(nn.Module):
    def __init__(self, c, way, conv):
        super().__init__()
        self.way = way
        if conv and way == "down":
            self.op = nn.Conv2d(c, c, 3, 2, 1)
        if conv and way == "up":
            self.conv = nn.Conv2d(c, c, 3, 1, 1)

    def forward(self, x):
        if self.way == "down":
            return self.op(x) if hasattr(self, "op") else F.avg_pool2d(x, 2)
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        return self.conv(x) if hasattr(self, "conv") else x


class AdmRes(nn.Module):
    def __init__(self, c, out, emb, scale_shift, way=None):
        super().__init__()
        self.in_layers = nn.Sequential(norm32(c), nn.SiLU(), nn.Conv2d(c, out, 3, 1, 1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb, 2 * out if scale_shift else out))
        self.out_layers = nn.Sequential(norm32(out), nn.SiLU(), nn.Dropout(0), nn.Conv2d(out, out, 3, 1, 1))
        self.skip_connection = nn.Identity() if c == out else nn.Conv2d(c, out, 1)
        self.resample = AdmResampling(c, way, False) if way else None
        self.scale_shift = scale_shift

    def forward(self, x, emb):
        h = self.in_layers[:-1](x)
        if self.resample:
            h, x = self.resample(h), self.resample(x)
        h = self.in_layers[-1](h)
        e = self.emb_layers(emb)[:, :, None, None]
        if self.scale_shift:
            scale, shift = e.chunk(2, 1)
            h = self.out_layers[1:](self.out_layers[0](h) * (1 + scale) + shift)
        else:
            h = self.out_layers(h + e)
        return self.skip_connection(x) + h


class AdmAttention(nn.Module):
    def __init__(self, c, heads, new_order):
        super().__init__()
        self.norm, self.qkv, self.proj_out = norm32(c), nn.Conv1d(c, 3 * c, 1), nn.Conv1d(c, c, 1)
        self.heads, self.new_order = heads, new_order

    def forward(self, x):
        b, c, *size = x.shape
        flat = x.reshape(b, c, -1)
        qkv, d = self.qkv(self.norm(flat)), c // self.heads
        if self.new_order:
            q, k, v = (t.reshape(b * self.heads, d, -1) for t in qkv.chunk(3, 1))
        else:
            q, k, v = qkv.reshape(b * self.heads, 3 * d, -1).split(d, 1)
        w = torch.einsum("bct,bcs->bts", q, k / math.sqrt(d)).softmax(-1)
        a = torch.einsum("bts,bcs->bct", w, v).reshape(b, c, -1)
        return (flat + self.proj_out(a)).reshape(b, c, *size)


class Adm(nn.Module):
    def __init__(self, image_size, num_channels, num_res_blocks, channel_mult, attention_resolutions, num_heads, learn_sigma=False,
                 class_cond=False, num_classes=1000, use_scale_shift_norm=True, resblock_updown=False, num_head_channels=-1,
                 num_heads_upsample=-1, use_new_attention_order=False, in_channels=3):
        super().__init__()
        mult = [float(m) for m in channel_mult.split(",")]
        places = [image_size // int(r) for r in attention_resolutions.split(",")]
        emb = 4 * num_channels
        self.dim = num_channels
        self.time_embed = nn.Sequential(nn.Linear(num_channels, emb), nn.SiLU(), nn.Linear(emb, emb))
        if class_cond:
            self.label_emb = nn.Embedding(num_classes, emb)
        res = lambda c, out, way=None: AdmRes(c, out, emb, use_scale_shift_norm, way)
        heads_of = lambda c, n: c // num_head_channels if num_head_channels != -1 else n
        attention = lambda c, n: AdmAttention(c, heads_of(c, n), use_new_attention_order)
        resampling = lambda c, way: res(c, c, way) if resblock_updown else AdmResampling(c, way, True)
        up_heads = num_heads if num_heads_upsample == -1 else num_heads_upsample
        c = int(mult[0] * num_channels)
        self.input_blocks, widths, ds = nn.ModuleList([nn.ModuleList([nn.Conv2d(in_channels, c, 3, 1, 1)])]), [c], 1
        for level, m in enumerate(mult):
            for _ in range(num_res_blocks):
                out = int(m * num_channels)
                block = [res(c, out)] + ([attention(out, num_heads)] if ds in places else [])
                c = out
                self.input_blocks.append(nn.ModuleList(block))
                widths.append(c)
            if level + 1 < len(mult):
                self.input_blocks.append(nn.ModuleList([resampling(c, "down")]))
                widths.append(c)
                ds *= 2
        self.middle_block = nn.ModuleList([res(c, c), attention(c, num_heads), res(c, c)])
        self.output_blocks = nn.ModuleList()
        for level, m in reversed(list(enumerate(mult))):
            for i in range(num_res_blocks + 1):
                out = int(m * num_channels)
                block = [res(c + widths.pop(), out)] + ([attention(out, up_heads)] if ds in places else [])
                c = out
                if level and i == num_res_blocks:
                    block.append(resampling(c, "up"))
                    ds //= 2
                self.output_blocks.append(nn.ModuleList(block))
        self.out = nn.Sequential(norm32(c), nn.SiLU(), nn.Conv2d(c, 6 if learn_sigma else 3, 3, 1, 1))

    def forward(self, x, t, y=None, low_res=None):
        if low_res is not None:
            x = torch.cat([x, F.interpolate(low_res, x.shape[2:], mode="bilinear")], 1)
        emb = self.time_embed(waves(t, self.dim, 0, True))
        if y is not None:
            emb = emb + self.label_emb(y)
        run = lambda block, x: [x := m(x, emb) if isinstance(m, AdmRes) else m(x) for m in block][-1]
        kept = []
        for block in self.input_blocks:
            x = run(block, x)
            kept.append(x)
        x = run(self.middle_block, x)
        for block in self.output_blocks:
            x = run(block, torch.cat([x, kept.pop()], 1))
        return self.out(x)


def adm(config):
    if "large_size" in config:
        config = {k: v for k, v in config.items() if k not in ("large_size", "small_size")} | {"image_size": config["large_size"], "in_channels": 6}
    return Adm(**config)


class EdmConv(nn.Module):
    def __init__(self, c, out, k, way=None, taps=(1, 1), fused=False):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out, c, k, k)) if k else None
        self.bias = nn.Parameter(torch.empty(out)) if k else None
        f = torch.tensor(taps, dtype=torch.float64)
        self.register_buffer("resample_filter", (f.ger(f) / f.sum() ** 2)[None, None] if way else None)
        self.way, self.fused = way, fused

    def forward(self, x):
        f, w = self.resample_filter, self.weight
        pad = w.shape[-1] // 2 if w is not None else 0
        tile = lambda n: f.to(x).tile([n, 1, 1, 1])
        if f is not None:
            p = (f.shape[-1] - 1) // 2
            if self.fused:
                x = F.conv2d(x, w, padding=pad + p)
                x = F.conv2d(x, tile(x.shape[1]), groups=x.shape[1], stride=2)
                return x + self.bias[:, None, None]
            n = x.shape[1]
            if self.way == "up":
                x = F.conv_transpose2d(x, tile(n) * 4, groups=n, stride=2, padding=p)
            else:
                x = F.conv2d(x, tile(n), groups=n, stride=2, padding=p)
        return x if w is None else F.conv2d(x, w, self.bias, padding=pad)


class EdmBlock(nn.Module):
    def __init__(self, c, out, emb, song, taps, way=None, attention=False):
        super().__init__()
        eps = 1e-6 if song else 1e-5
        norm = lambda n: nn.GroupNorm(min(32, n // 4), n, eps)
        self.song, self.scale = song, math.sqrt(0.5) if song else 1.0
        self.heads = 0 if not attention else 1 if song else out // 64
        self.norm0, self.conv0 = norm(c), EdmConv(c, out, 3, way, taps)
        self.affine = nn.Linear(emb, out if song else 2 * out)
        self.norm1, self.conv1 = norm(out), EdmConv(out, out, 3)
        self.skip = EdmConv(c, out, 1 if song or c != out else 0, way, taps) if c != out or way else None
        if self.heads:
            self.norm2, self.qkv, self.proj = norm(out), EdmConv(out, 3 * out, 1), EdmConv(out, out, 1)

    def forward(self, x, emb):
        skip = self.skip(x) if self.skip else x
        h = self.conv0(F.silu(self.norm0(x)))
        e = self.affine(emb)[:, :, None, None]
        if self.song:
            h = self.norm1(h + e)
        else:
            scale, shift = e.chunk(2, 1)
            h = self.norm1(h) * (scale + 1) + shift
        x = (self.conv1(F.silu(h)) + skip) * self.scale
        if self.heads:
            b, c, *size = x.shape
            q, k, v = self.qkv(self.norm2(x)).reshape(b * self.heads, c // self.heads, 3, -1).unbind(2)
            w = torch.einsum("ncq,nck->nqk", q, k / math.sqrt(k.shape[1])).softmax(2)
            a = torch.einsum("nqk,nck->ncq", w, v).reshape(b, c, *size)
            x = (self.proj(a) + x) * self.scale
        return x


class Edm(nn.Module):
    def __init__(self, img_resolution, img_channels, model_channels, channel_mult, num_blocks, attn_resolutions, model_type="SongUNet",
                 label_dim=0, augment_dim=0, channel_mult_emb=4, embedding_type="positional", channel_mult_noise=1, encoder_type="standard",
                 decoder_type="standard", resample_filter=(1, 1)):
        super().__init__()
        song = self.song = model_type == "SongUNet"
        self.noise = noise = model_channels * (channel_mult_noise if song else 1)
        self.encoder, self.decoder, self.label_dim = encoder_type, decoder_type, label_dim
        emb, taps = model_channels * channel_mult_emb, resample_filter
        if embedding_type == "fourier":
            self.map_noise = nn.Module()
            self.map_noise.register_buffer("freqs", torch.empty(noise // 2))
        else:
            self.map_noise = None
        if label_dim:
            self.map_label = nn.Linear(label_dim, noise if song else emb, bias=song)
        if augment_dim:
            self.map_augment = nn.Linear(augment_dim, noise, bias=False)
        self.map_layer0, self.map_layer1 = nn.Linear(noise, emb), nn.Linear(emb, emb)
        block = lambda c, out, **k: EdmBlock(c, out, emb, song, taps, **k)
        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        c, aux, widths = img_channels, img_channels, []
        for level, m in enumerate(channel_mult):
            r = img_resolution >> level
            if level == 0:
                out = model_channels * (1 if song else m)
                self.enc[f"{r}x{r}_conv"], c = EdmConv(c, out, 3), out
            else:
                self.enc[f"{r}x{r}_down"] = block(c, c, way="down")
                if encoder_type == "skip":
                    self.enc[f"{r}x{r}_aux_down"] = EdmConv(aux, aux, 0, "down", taps)
                    self.enc[f"{r}x{r}_aux_skip"] = EdmConv(aux, c, 1)
                if encoder_type == "residual":
                    self.enc[f"{r}x{r}_aux_residual"], aux = EdmConv(aux, c, 3, "down", taps, fused=True), c
            widths.append(c)
            for i in range(num_blocks):
                self.enc[f"{r}x{r}_block{i}"] = block(c, model_channels * m, attention=r in attn_resolutions)
                c = model_channels * m
                widths.append(c)
        for level, m in reversed(list(enumerate(channel_mult))):
            r = img_resolution >> level
            if level + 1 == len(channel_mult):
                self.dec[f"{r}x{r}_in0"], self.dec[f"{r}x{r}_in1"] = block(c, c, attention=True), block(c, c)
            else:
                self.dec[f"{r}x{r}_up"] = block(c, c, way="up")
            for i in range(num_blocks + 1):
                attention = r in attn_resolutions and (i == num_blocks or not song)
                self.dec[f"{r}x{r}_block{i}"] = block(c + widths.pop(), model_channels * m, attention=attention)
                c = model_channels * m
            if song and (decoder_type == "skip" or level == 0):
                if decoder_type == "skip" and level + 1 < len(channel_mult):
                    self.dec[f"{r}x{r}_aux_up"] = EdmConv(img_channels, img_channels, 0, "up", taps)
                self.dec[f"{r}x{r}_aux_norm"] = nn.GroupNorm(min(32, c // 4), c, 1e-6)
                self.dec[f"{r}x{r}_aux_conv"] = EdmConv(c, img_channels, 3)
        if not song:
            self.out_norm, self.out_conv = nn.GroupNorm(min(32, c // 4), c), EdmConv(c, img_channels, 3)

    def embed(self, t, labels):
        one_hot = F.one_hot(labels, self.label_dim).double() if labels is not None else None
        if self.map_noise is not None:
            a = t[:, None] * (2 * math.pi * self.map_noise.freqs)[None]
            e = torch.cat([a.cos(), a.sin()], 1)
        else:
            e = waves(t, self.noise, 1 if self.song else 0, True)
        if self.song:
            # The code base swaps the halves.
            e = e.reshape(len(t), 2, -1).flip(1).reshape(len(t), -1)
            if one_hot is not None:
                e = e + self.map_label(one_hot * math.sqrt(self.label_dim))
            return F.silu(self.map_layer1(F.silu(self.map_layer0(e))))
        e = self.map_layer1(F.silu(self.map_layer0(e)))
        if one_hot is not None:
            e = e + self.map_label(one_hot)
        return F.silu(e)

    def forward(self, x, t, labels=None):
        emb, kept, aux = self.embed(t, labels), [], x
        for name, m in self.enc.items():
            if "aux_down" in name:
                aux = m(aux)
            elif "aux_skip" in name:
                x = kept[-1] = x + m(aux)
            elif "aux_residual" in name:
                x = kept[-1] = aux = (x + m(aux)) / math.sqrt(2)
            else:
                x = m(x, emb) if isinstance(m, EdmBlock) else m(x)
                kept.append(x)
        image = h = None
        for name, m in self.dec.items():
            if "aux_up" in name:
                image = m(image)
            elif "aux_norm" in name:
                h = m(x)
            elif "aux_conv" in name:
                h = m(F.silu(h))
                image = h if image is None else h + image
            else:
                x = m(torch.cat([x, kept.pop()], 1) if "block" in name else x, emb)
        return image if self.song else self.out_conv(F.silu(self.out_norm(x)))


def edm(config):
    return Edm(**config)


class Waves(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, t):
        return waves(t, self.dim, 1, False)


class PolicyBlock(nn.Module):
    def __init__(self, c, out, k, groups):
        super().__init__()
        self.block = nn.Sequential(nn.Conv1d(c, out, k, padding=k // 2), nn.GroupNorm(groups, out), nn.Mish())

    def forward(self, x):
        return self.block(x)


class PolicyRes(nn.Module):
    def __init__(self, c, out, cond, k, groups, scale, lerobot):
        super().__init__()
        first, second = PolicyBlock(c, out, k, groups), PolicyBlock(out, out, k, groups)
        if lerobot:
            self.conv1, self.conv2 = first, second
        else:
            self.blocks = nn.ModuleList([first, second])
        self.pair = lambda: (self.conv1, self.conv2) if lerobot else tuple(self.blocks)
        self.cond_encoder = nn.Sequential(nn.Mish(), nn.Linear(cond, 2 * out if scale else out))
        self.residual_conv = nn.Conv1d(c, out, 1) if c != out else nn.Identity()
        self.scale = scale

    def forward(self, x, cond):
        first, second = self.pair()
        h, e = first(x), self.cond_encoder(cond)[:, :, None]
        if self.scale:
            scale, shift = e.chunk(2, 1)
            h = scale * h + shift
        else:
            h = h + e
        return second(h) + self.residual_conv(x)


class Named(nn.Module):
    """Diffusion Policy's Downsample1d and Upsample1d have their convolution as `conv`."""

    def __init__(self, conv):
        super().__init__()
        self.conv = conv

    def forward(self, x):
        return self.conv(x)


class Policy(nn.Module):
    def __init__(self, input_dim, global_cond_dim, diffusion_step_embed_dim, down_dims, n_groups, horizon, kernel_size=3,
                 cond_predict_scale=False, naming="diffusion_policy"):
        super().__init__()
        lerobot, e = naming == "lerobot", diffusion_step_embed_dim
        cond = e + (global_cond_dim or 0)
        self.diffusion_step_encoder = nn.Sequential(Waves(e), nn.Linear(e, 4 * e), nn.Mish(), nn.Linear(4 * e, e))
        res = lambda c, out: PolicyRes(c, out, cond, kernel_size, n_groups, cond_predict_scale, lerobot)
        named = (lambda conv: conv) if lerobot else Named
        pairs = list(zip([input_dim, *down_dims[:-1]], down_dims))
        self.down_modules = nn.ModuleList()
        for i, (c, out) in enumerate(pairs):
            down = named(nn.Conv1d(out, out, 3, 2, 1)) if i + 1 < len(pairs) else nn.Identity()
            self.down_modules.append(nn.ModuleList([res(c, out), res(out, out), down]))
        last = down_dims[-1]
        self.mid_modules = nn.ModuleList([res(last, last), res(last, last)])
        self.up_modules = nn.ModuleList()
        for c, out in reversed(pairs[1:]):
            up = named(nn.ConvTranspose1d(c, c, 4, 2, 1))
            self.up_modules.append(nn.ModuleList([res(2 * out, c), res(c, c), up]))
        self.final_conv = nn.Sequential(PolicyBlock(down_dims[0], down_dims[0], kernel_size, 8), nn.Conv1d(down_dims[0], input_dim, 1))

    def forward(self, x, t, condition=None):
        e = self.diffusion_step_encoder(t)
        if condition is not None:
            e = torch.cat([e, condition], 1)
        kept = []
        for first, second, down in self.down_modules:
            x = second(first(x, e), e)
            kept.append(x)
            x = down(x)
        for m in self.mid_modules:
            x = m(x, e)
        for first, second, up in self.up_modules:
            x = up(second(first(torch.cat([x, kept.pop()], 1), e), e))
        return self.final_conv(x)


def policy(config):
    return Policy(**config)
