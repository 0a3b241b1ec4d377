"""Golden images of latent pipelines, for tests/networks/latent.rs.

Made with torch 2.15.0, diffusers 0.42.1, safetensors 0.8.0 and numpy 2.4.6. Run by hand: `python tests/golden/make_latent.py`. It writes latent.json
(the configurations) and latent.safetensors: for each pipeline NAME its final latents "NAME, latents" and its images "NAME"; of those of image to
image also the latents of the pictures that they begin at, "NAME, begun".

Weights are drawn by make_unet.py's recipe, each part from the first stream on. Pipeline number n starts at uniform(INPUT_SEED, 10 n, ..., a =
sqrt(3)); the rows of a text are 10 n + 1, the negative ones 10 n + 2 (a = 1). Image to image takes 10 n as the noise on the latents, 10 n + 3 (a =
sqrt(3)) as that of the encoder's distribution and the pictures 10 n + 4 (a = 1, in -1 to 1). The pipelines are diffusers' own, LDMPipeline,
StableDiffusionPipeline and StableDiffusionImg2ImgPipeline, in float64, rounded once; their pictures are those of the decoder here clamped to 0 to 1,
which is checked. diffusers has no pipeline of image to image with a VQModel: there its model and its scheduler are called here as that one calls them.
"""

import json
import math
import pathlib

import diffusers
import torch
from diffusers.models.autoencoders import vae as distributions
from diffusers.pipelines.deprecated.latent_diffusion_uncond import pipeline_latent_diffusion_uncond as ldm
from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion_img2img as img2img
from safetensors.numpy import save_file

import make_unet

HERE = pathlib.Path(__file__).parent
INPUT_SEED = 44
STEPS = 5
STRENGTH = 0.6

UNET = {"_class_name": "UNet2DModel", "sample_size": 8, "block_out_channels": [8, 16], "norm_num_groups": 4, "layers_per_block": 1,
        **make_unet.down_up("", "Attn")}
CONDITION = {"_class_name": "UNet2DConditionModel", "block_out_channels": [8, 16], "norm_num_groups": 4, "cross_attention_dim": 10,
             "attention_head_dim": 2, "layers_per_block": 1, "sample_size": 8, "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
             "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"]}
BLOCKS = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2, "block_out_channels": [8, 8], "norm_num_groups": 4}
VQ = {"_class_name": "VQModel", **BLOCKS, "num_vq_embeddings": 40, "scaling_factor": 0.75}
KL = {"_class_name": "AutoencoderKL", **BLOCKS, "scaling_factor": 0.5}
TINY = {"_class_name": "AutoencoderTiny", "encoder_block_out_channels": [8, 8], "decoder_block_out_channels": [8, 8], "num_encoder_blocks": [1, 1],
        "num_decoder_blocks": [1, 1]}
DDIM = {"_class_name": "DDIMScheduler"}
STABLE = {**DDIM, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False, "set_alpha_to_one": False,
          "steps_offset": 1}


def build(config):
    config = dict(config)
    model = getattr(diffusers, config.pop("_class_name"))(**config).double().eval()
    model.load_state_dict(make_unet.weights(model), strict=True)
    if hasattr(model, "time_proj"):
        model.time_proj.register_forward_hook(lambda _module, _inputs, output: output.double())
    return model


def scheduler(config):
    config = dict(config)
    return getattr(diffusers, config.pop("_class_name"))(**config)


def draw(stream, shape, a):
    return make_unet.draw(INPUT_SEED, stream, shape, a)


@torch.no_grad()
def latent_diffusion(arrays):
    unet, vqvae = build(UNET), build(VQ)
    pipe = ldm.LDMPipeline(vqvae=vqvae, unet=unet, scheduler=scheduler(DDIM))
    pipe.set_progress_bar_config(disable=True)
    ldm.randn_tensor = lambda shape, **_: draw(0, shape, math.sqrt(3))
    kept = []
    decode = vqvae.decode
    vqvae.decode = lambda z: (kept.append(z), decode(z))[1]
    pictures = pipe(batch_size=2, num_inference_steps=STEPS, output_type="np").images
    images = decode(kept[0]).sample
    check(images, pictures)
    arrays["ldm, latents"], arrays["ldm"] = kept[0] * vqvae.config.scaling_factor, images
    return {"name": "ldm", "unet": UNET, "vqvae": VQ, "scheduler": DDIM}


@torch.no_grad()
def stable_diffusion(arrays):
    unet, vae = build(CONDITION), build(KL)
    pipe = diffusers.StableDiffusionPipeline(vae=vae, text_encoder=None, tokenizer=None, unet=unet, scheduler=scheduler(STABLE), safety_checker=None,
                                             feature_extractor=None, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    text, negative = draw(11, (1, 7, 10), 1), draw(12, (1, 7, 10), 1)
    start = draw(10, (1, 4, 8, 8), math.sqrt(3))
    call = lambda kind: pipe(prompt_embeds=text, negative_prompt_embeds=negative, latents=start, guidance_scale=3.0, num_inference_steps=STEPS,
                             output_type=kind).images
    latents = call("latent")
    images = vae.decode(latents / vae.config.scaling_factor).sample
    check(images, call("np"))
    arrays["stable diffusion, latents"], arrays["stable diffusion"] = latents, images
    return {"name": "stable diffusion", "unet": {**CONDITION, "text_length": 7}, "vae": KL, "scheduler": STABLE, "guidance": 3.0}


@torch.no_grad()
def image_to_image(arrays, number, name, config):
    """Of two pictures by diffusers' pipeline."""
    unet, vae = build(CONDITION), build(config)
    pipe = diffusers.StableDiffusionImg2ImgPipeline(vae=vae, text_encoder=None, tokenizer=None, unet=unet, scheduler=scheduler(STABLE),
                                                    safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    text, negative = (draw(10 * number + i, (1, 7, 10), 1).repeat(2, 1, 1) for i in (1, 2))
    x = draw(10 * number + 4, (2, 3, 16, 16), 1)
    img2img.randn_tensor = lambda shape, **_: draw(10 * number, shape, math.sqrt(3))
    distributions.randn_tensor = lambda shape, **_: draw(10 * number + 3, shape, math.sqrt(3))
    begun = []
    add_noise = pipe.scheduler.add_noise
    pipe.scheduler.add_noise = lambda z, *rest: (begun.append(z), add_noise(z, *rest))[1]
    call = lambda kind: pipe(image=(x + 1) / 2, strength=STRENGTH, prompt_embeds=text, negative_prompt_embeds=negative, guidance_scale=3.0,
                             num_inference_steps=STEPS, output_type=kind).images
    latents = call("latent")
    assert len(begun) == 1 and begun[0].shape == latents.shape
    images = vae.decode(latents / vae.config.scaling_factor).sample
    check(images, call("np"))
    arrays[f"{name}, begun"], arrays[f"{name}, latents"], arrays[name] = begun[0], latents, images
    return {"name": name, "unet": {**CONDITION, "text_length": 7}, "vae": config, "scheduler": STABLE, "guidance": 3.0}


@torch.no_grad()
def quantised_image_to_image(arrays, number, name):
    unet, vqvae, steps = build(UNET), build(VQ), scheduler(DDIM)
    z = vqvae.encode(draw(10 * number + 4, (2, 3, 16, 16), 1)).latents * vqvae.config.scaling_factor
    steps.set_timesteps(STEPS)
    times = steps.timesteps[STEPS - int(STEPS * STRENGTH):]
    x = steps.add_noise(z, draw(10 * number, z.shape, math.sqrt(3)), times[:1])
    for t in times:
        x = steps.step(unet(x, t).sample, t, x).prev_sample
    arrays[f"{name}, begun"], arrays[f"{name}, latents"] = z, x
    arrays[name] = vqvae.decode(x / vqvae.config.scaling_factor).sample
    return {"name": name, "unet": UNET, "vqvae": VQ, "scheduler": DDIM}


def check(images, pictures):
    clamped = (images / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    assert abs(clamped - pictures).max() < 1e-6, abs(clamped - pictures).max()


def main():
    arrays = {}
    cases = [latent_diffusion(arrays), stable_diffusion(arrays)]
    from_images = [image_to_image(arrays, 2, "image to image", KL), image_to_image(arrays, 3, "image to image, tiny", TINY),
                   quantised_image_to_image(arrays, 4, "image to image, quantised")]
    for name, value in arrays.items():
        print(f"{name}: {tuple(value.shape)}, std {value.std():.3f}, {value.dtype}")
        assert value.dtype == torch.float64
    save_file({k: v.float().contiguous().numpy() for k, v in arrays.items()}, HERE / "latent.safetensors")
    (HERE / "latent.json").write_text(json.dumps({"steps": STEPS, "cases": cases, "strength": STRENGTH, "image_to_image": from_images}, indent=1) + "\n")


if __name__ == "__main__":
    main()
