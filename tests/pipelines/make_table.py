"""What every command does with the pipeline directories that people have: scheduler classes, releases of diffusers, layouts.

Run by hand from the repository root, with torch 2.15.0, diffusers 0.42.1 and a built program:

    UNDIFFUSE=target/release/undiffuse python tests/pipelines/make_table.py

It makes the directories with a small network of random weights, runs the commands on each and writes tests/pipelines/table.md. The schedulers of
old releases are the files in tests/golden/scheduler_configs.json, as those releases wrote them. `predict` is compared with the network
in PyTorch: "yes" says that the weights which are meant were read. tests/program/directories.rs and tests/program/models.rs hold the same without PyTorch.
"""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import warnings

import diffusers
import torch
from diffusers import UNet2DModel
from safetensors.torch import load_file, save_file

warnings.filterwarnings("ignore")
diffusers.logging.set_verbosity_error()

HERE = pathlib.Path(__file__).parent
PROGRAM = pathlib.Path(os.environ.get("UNDIFFUSE", "target/release/undiffuse")).resolve()
WORK = pathlib.Path(tempfile.mkdtemp())
STEM = "diffusion_pytorch_model"
DDPM = '{"_class_name": "DDPMScheduler"}'

CLASSES = """DDIMInverseScheduler DDIMParallelScheduler DDIMScheduler DDPMParallelScheduler DDPMScheduler DEISMultistepScheduler
DPMSolverMultistepInverseScheduler DPMSolverMultistepScheduler DPMSolverSDEScheduler DPMSolverSinglestepScheduler EDMDPMSolverMultistepScheduler
EDMEulerScheduler EulerAncestralDiscreteScheduler EulerDiscreteScheduler FlowMatchEulerDiscreteScheduler FlowMatchHeunDiscreteScheduler
HeunDiscreteScheduler IPNDMScheduler KDPM2AncestralDiscreteScheduler KDPM2DiscreteScheduler LCMScheduler LMSDiscreteScheduler PNDMScheduler
RePaintScheduler SASolverScheduler ScoreSdeVeScheduler TCDScheduler UniPCMultistepScheduler CMStochasticIterativeScheduler""".split()


def network(seed):
    torch.manual_seed(seed)
    return UNet2DModel(sample_size=16, in_channels=1, out_channels=1, block_out_channels=(16, 32), layers_per_block=1,
                       down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
                       norm_num_groups=8).eval()


MEANT, OTHER = network(0), network(1)
X = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(2))
with torch.no_grad():
    WANT = MEANT(X, 5).sample
save_file({"sample": X, "timestep": torch.tensor(5)}, WORK / "in.safetensors")


def config(path, net=MEANT):
    path.mkdir(parents=True, exist_ok=True)
    net.save_config(path)


def weights(path, net=MEANT, name=f"{STEM}.safetensors", prefix="", dtype=torch.float32):
    path.mkdir(parents=True, exist_ok=True)
    save_file({prefix + k: v.to(dtype).contiguous() for k, v in net.state_dict().items()}, path / name)


def model(path, net=MEANT, **kw):
    config(path, net)
    weights(path, net, **kw)


def shards(path, net=MEANT, variant=None):
    net.save_pretrained(path, max_shard_size="60KB", variant=variant)
    assert list(path.glob("*-of-*")), "no shards"


def scheduler(path, text=DDPM):
    path.mkdir(parents=True, exist_ok=True)
    (path / "scheduler_config.json").write_text(text)


def nested(path, text=DDPM, **kw):
    model(path / "unet", **kw)
    scheduler(path / "scheduler", text)


def whole(path, name):
    """As `DDPMPipeline(unet, scheduler).save_pretrained` writes it, for any scheduler class."""
    getattr(diffusers, name)().save_pretrained(path / "scheduler")
    MEANT.save_pretrained(path / "unet")
    parts = {"_class_name": "DDPMPipeline", "scheduler": ["diffusers", name], "unet": ["diffusers", "UNet2DModel"]}
    (path / "model_index.json").write_text(json.dumps(parts))


def layouts():
    """Pairs of a description and what makes the directory; it may give the path to name instead of the directory."""
    def case(text):
        return lambda make: cases.append((text, make))

    cases = []

    @case("flat: config.json, scheduler_config.json and the weights in one directory")
    def _(d):
        model(d)
        scheduler(d)

    @case("`unet.save_pretrained(DIR)` alone")
    def _(d):
        MEANT.save_pretrained(d)

    @case("accelerate's checkpoint-500, with unet and unet_ema")
    def _(d):
        model(d / "checkpoint-500/unet")
        model(d / "checkpoint-500/unet_ema", OTHER)
        (d / "checkpoint-500/optimizer.bin").write_bytes(b"PK\x03\x04")
        return d / "checkpoint-500"

    @case("the unet_ema of a checkpoint")
    def _(d):
        model(d / "unet", OTHER)
        model(d / "unet_ema")
        return d / "unet_ema"

    @case("EMAModel.save_pretrained: the average's own keys in config.json")
    def _(d):
        from diffusers.training_utils import EMAModel
        EMAModel(MEANT.parameters(), model_cls=UNet2DModel, model_config=MEANT.config).save_pretrained(d)

    @case("only a unet_ema")
    def _(d):
        model(d / "unet_ema")

    @case("PIPELINE/unet")
    def _(d):
        nested(d)
        return d / "unet"

    @case("the path of a weight file")
    def _(d):
        nested(d)
        return d / f"unet/{STEM}.safetensors"

    @case("the path of an index")
    def _(d):
        shards(d)
        return d / f"{STEM}.safetensors.index.json"

    @case("shards with their index")
    def _(d):
        shards(d / "unet")
        scheduler(d / "scheduler")

    @case("one file, then shards: a stale file beside the index")
    def _(d):
        OTHER.save_pretrained(d / "unet")
        shards(d / "unet")
        scheduler(d / "scheduler")

    @case("shards, then one file: an index without its shards")
    def _(d):
        shards(d / "unet", OTHER)
        MEANT.save_pretrained(d / "unet")
        scheduler(d / "scheduler")

    @case("shards of which one is missing")
    def _(d):
        shards(d / "unet")
        next((d / "unet").glob("*-00002-of-*")).unlink()

    @case("one shard missing and a file beside")
    def _(d):
        shards(d / "unet")
        next((d / "unet").glob("*-00002-of-*")).unlink()
        weights(d / "unet", OTHER)

    @case("float16 weights")
    def _(d):
        nested(d, dtype=torch.float16)

    @case("bfloat16 weights")
    def _(d):
        nested(d, dtype=torch.bfloat16)

    @case("only the variant fp16")
    def _(d):
        nested(d, name=f"{STEM}.fp16.safetensors", dtype=torch.float16)

    @case("a variant in shards")
    def _(d):
        shards(d / "unet", variant="fp16")
        scheduler(d / "scheduler")

    @case("a variant beside the plain file")
    def _(d):
        nested(d)
        weights(d / "unet", OTHER, f"{STEM}.fp16.safetensors")

    @case("two variants")
    def _(d):
        nested(d, name=f"{STEM}.fp16.safetensors")
        weights(d / "unet", OTHER, f"{STEM}.non_ema.safetensors")

    @case("a packed file beside the weights")
    def _(d):
        model(d / "other", OTHER)
        run("pack", d / "other", d / "packed.safetensors")
        shutil.rmtree(d / "other")
        model(d)

    @case("a packed file alone in a directory")
    def _(d):
        model(d / "other")
        run("pack", d / "other", d / "packed.safetensors")
        shutil.rmtree(d / "other")

    @case("a packed file")
    def _(d):
        nested(d / "other")
        run("pack", d / "other", d / "packed.safetensors", "--dtype", "f32")
        return d / "packed.safetensors"

    @case("nested and flat at once, without model_index.json")
    def _(d):
        nested(d)
        model(d, OTHER)

    @case("nested and flat at once, with model_index.json")
    def _(d):
        whole(d, "DDPMScheduler")
        model(d, OTHER)

    for prefix in ("module.", "_orig_mod.", "model.", "ema_model.", "module._orig_mod."):
        cases.append((f"every name begins with `{prefix}`", lambda d, p=prefix: nested(d, prefix=p)))

    @case("a model and its average in one file")
    def _(d):
        nested(d)
        both = {f"{p}.{k}": v.contiguous().clone() for p, n in (("model", OTHER), ("ema_model", MEANT)) for k, v in n.state_dict().items()}
        save_file(both, d / f"unet/{STEM}.safetensors")

    @case("only a pickle, .bin")
    def _(d):
        config(d / "unet")
        torch.save(MEANT.state_dict(), d / f"unet/{STEM}.bin")

    @case("a Git LFS pointer in place of the weights")
    def _(d):
        nested(d)
        (d / f"unet/{STEM}.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")

    @case("a web page in place of config.json")
    def _(d):
        nested(d)
        (d / "unet/config.json").write_text("<!doctype html>\n<html></html>")

    @case("a web page in place of scheduler_config.json")
    def _(d):
        nested(d, "<!doctype html>")

    @case("a pipeline with a VQ model")
    def _(d):
        whole(d, "DDIMScheduler")
        parts = json.loads((d / "model_index.json").read_text())
        (d / "model_index.json").write_text(json.dumps({**parts, "vqvae": ["diffusers", "VQModel"]}))

    @case("a UNet2DConditionModel")
    def _(d):
        nested(d)
        (d / "unet/config.json").write_text('{"_class_name": "UNet2DConditionModel"}')

    @case("a key of a later release that is null")
    def _(d):
        nested(d)
        c = json.loads((d / "unet/config.json").read_text())
        (d / "unet/config.json").write_text(json.dumps({**c, "a_key_to_come": None}))

    @case("DDIM that was made from a DPM-Solver: `-Infinity` and null")
    def _(d):
        dpm = diffusers.DPMSolverMultistepScheduler()
        dpm.save_pretrained(d / "dpm")
        again = diffusers.DPMSolverMultistepScheduler.from_pretrained(d / "dpm")
        diffusers.DDIMScheduler.from_config(again.config).save_pretrained(d / "scheduler")
        shutil.rmtree(d / "dpm")
        model(d / "unet")

    return cases


def run(*args):
    r = subprocess.run([PROGRAM, *map(str, args)], capture_output=True, text=True, cwd=WORK)
    return r.returncode, r.stderr.strip()


COLUMNS = ["info", "predict", "bench", "pack", "sample", "--sampler ddim", "--sampler ddpm", "--scheduler"]


def try_all(path):
    """The cells of a row and what the first refusal says."""
    of = ["--backend", "cpu"]
    short = ["--count", 1, "--steps", 2, "--output", "o.npy", *of]
    runs = [
        ["info", path, *of],
        ["predict", path, "--input", "in.safetensors", "--output", "out.safetensors", *of],
        ["bench", path, "--calls", 1, *of],
        ["pack", path, "packed.safetensors"],
        ["sample", path, *short],
        ["sample", path, "--sampler", "ddim", *short],
        ["sample", path, "--sampler", "ddpm", *short],
        ["sample", path, "--scheduler", DDPM, *short],
    ]
    cells, said = [], ""
    for args in runs:
        (WORK / "out.safetensors").unlink(missing_ok=True)
        code, text = run(*args)
        cell = "yes" if code == 0 else "no"
        if code == 0 and args[0] == "predict":
            error = (load_file(WORK / "out.safetensors")["sample"] - WANT).abs().max()
            cell = "yes" if error < 1e-4 else "yes, rounded" if error < 0.05 else "OTHER WEIGHTS"
        if code != 0 and not said:
            said = text.removeprefix("undiffuse: ").replace(f"{WORK}/", "").replace(str(WORK), "")
        if code < 0 or code > 2:
            cell = f"CRASH {code}"
        cells.append(cell)
    return cells, said


def row(description, make, rows):
    path = WORK / "d"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    path = make(path) or path
    cells, said = try_all(path)
    assert not any(c.isupper() for c in cells), (description, cells, said)
    rows.append("| " + " | ".join([description, *cells, said.replace("|", "\\|")]) + " |")
    print(rows[-1], flush=True)


def main():
    head = "| directory | " + " | ".join(f"`{c}`" for c in COLUMNS) + " | the first refusal |\n" + "|---" * (len(COLUMNS) + 2) + "|"
    parts = []
    rows = []
    for name in CLASSES:
        row(name, lambda d: whole(d, name), rows)
    parts.append(("Schedulers as diffusers 0.42.1 saves their defaults, nested", rows))
    rows = []
    seen = set()
    for case in json.loads((HERE.parent / "golden/scheduler_configs.json").read_text()):
        key = (case["class"], case["version"])
        if case["from"] != "defaults" or case["version"] == diffusers.__version__ or key in seen:
            continue
        seen.add(key)
        row(f"{case['class']} of {case['version']}", lambda d: nested(d, case["file"]), rows)
    parts.append(("Schedulers as older releases saved their defaults, nested", rows))
    rows = []
    for description, make in layouts():
        row(description, make, rows)
    parts.append(("Layouts and weights, with DDPM's scheduler where there is one", rows))
    count = sum(len(rows) for _, rows in parts)
    text = f"""# What every command does with {count} pipeline directories

Written by [make_table.py](make_table.py), by hand, with diffusers 0.42.1 and torch 2.15.0. `predict` says yes where it gives what the network
gives in PyTorch, so the weights that are meant were read, and "rounded" where those are of 16 bits. The four last columns are `sample` for 2
steps: as it stands, with `--sampler`, and with `--scheduler '{DDPM}'`.
"""
    for title, rows in parts:
        text += f"\n## {title}\n\n{head}\n" + "\n".join(rows) + "\n"
    (HERE / "table.md").write_text(text)


main()
