//! `undiffuse devices`: what networks can run on here.

use serde_json::{Value, json};
use undiffuse::backend::Choice;

use crate::args::{Args, Command, Outcome, Token};
use crate::output;

/// The command.
pub const COMMAND: Command = Command {
    name: "devices",
    help: "\
Lists what networks can run on here, with the names that --backend takes. It opens the drivers of GPUs.

usage: undiffuse devices
",
    run,
};

fn run(args: &mut Args) -> Outcome {
    if let Some(token) = args.next()? {
        match token {
            Token::Option(name) => return args.unknown(&name),
            Token::Value(value) => return args.unexpected(&value),
        }
    }
    let path = undiffuse::backend::cpu::Cpu::new()?.path();
    let mut text = format!("{:<12}{path} kernels\n", Choice::Cpu.to_string());
    let mut devices = vec![json!({ "name": Choice::Cpu.to_string(), "kernels": path.to_string() })];
    text.push_str(&gpus(&mut devices));
    Ok(output::report(&text, &json!({ "devices": devices }))?)
}

#[cfg(feature = "wgpu")]
fn gpus(devices: &mut Vec<Value>) -> String {
    use undiffuse::backend::wgpu::{AdapterKind, adapters};
    let mut text = String::new();
    for a in adapters() {
        let kind = match a.kind {
            AdapterKind::Discrete => "discrete GPU",
            AdapterKind::Integrated => "integrated GPU",
            AdapterKind::Virtual => "virtual GPU",
            AdapterKind::Software => "software, used only when named",
            AdapterKind::Other => "other",
        };
        let subgroups = match a.subgroups {
            Some([min, max]) if min == max => format!("subgroups of {min}"),
            Some([min, max]) => format!("subgroups of {min} to {max}"),
            None => "no subgroups".into(),
        };
        devices.push(json!({
            "name": Choice::Wgpu(Some(a.index)).to_string(),
            "adapter": a.name,
            "kind": kind,
            "driver": a.driver,
            "f16": a.f16,
            "max_buffer": a.max_buffer,
            "unusable": a.unusable,
        }));
        text.push_str(&format!(
            "{:<12}{}\n{:12}{kind}; {}; driver {}\n{:12}{}, {subgroups}, buffers of up to {} bytes\n",
            Choice::Wgpu(Some(a.index)).to_string(),
            a.name,
            "",
            a.interface,
            a.driver,
            "",
            if a.f16 { "f16" } else { "no f16" },
            a.max_buffer,
        ));
        if let Some(why) = a.unusable {
            text.push_str(&format!("{:12}cannot be used: {why}\n", ""));
        }
    }
    if text.is_empty() {
        text.push_str("no adapter of a GPU was found\n");
    }
    text
}

#[cfg(not(feature = "wgpu"))]
fn gpus(_: &mut Vec<Value>) -> String {
    "this build is without the feature `wgpu`, so it looked for no GPU\n".into()
}
