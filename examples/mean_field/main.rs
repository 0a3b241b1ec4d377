//! The figures of the mean-field theory of deep networks (Poole et al. 2016; Schoenholz et al. 2017), drawn from
//! `training::mean_field`, with wide random networks beside it.
//!
//! `cargo run --release --features training --example mean_field -- FOLDER [NETWORKS]`
//!
//! Writes `maps.png`, `phase.png` and `depth.png`, which the page beside this file explains, and prints what the
//! points in them say: theory and networks of 1,000 units, and how far apart the two are. NETWORKS, 24 without it, is
//! how many stand behind a point of `depth.png` that is seen through 12 layers; where it is fewer, more networks do.

#[path = "../plot_2015/canvas.rs"]
#[allow(dead_code)]
mod canvas;
mod chart;
mod networks;

use std::path::Path;

use canvas::{Canvas, Color};
use chart::Chart;
use networks::{Inputs, Seen, WIDTH, run};
use undiffuse::training::mean_field::{MeanField, Nonlinearity};
use undiffuse::{Error, ErrorKind, Result};

const TANH: Nonlinearity = Nonlinearity::Tanh;
/// sigma_w of Poole et al. 2016, figures 1 and 2, at sigma_b = 0.3.
const SIGMA_W: [(f64, Color); 3] = [(1.3, [0.0, 0.3, 0.8]), (2.5, [0.0, 0.6, 0.2]), (4.0, [0.8, 0.1, 0.1])];
const SIGMA_B: f64 = 0.3;
/// sigma_b^2 of Schoenholz et al. 2017, and what sigma_w^2 of their figures is looked at.
const BIAS: f64 = 0.05;
const WEIGHTS: [f64; 10] = [0.6, 0.9, 1.2, 1.4, 1.55, 2.0, 2.3, 2.7, 3.2, 3.8];
const Q: Color = [0.85, 0.5, 0.0];
const C: Color = [0.0, 0.3, 0.8];
/// Layers through which depth scales are seen, at most.
const DEEPEST: usize = 12;
/// Networks behind each point of `maps.png`.
const FEW: usize = 8;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (Some(folder), count) = (args.first(), args.get(1).map_or(Ok(24), |n| n.parse::<usize>())) else {
        eprintln!("usage: mean_field FOLDER [NETWORKS]");
        std::process::exit(2);
    };
    let count = count.ok().filter(|&n| n > 1);
    let count = count.ok_or_else(|| Error::new(ErrorKind::InvalidArgument, "NETWORKS: expected 2 or more"))?;
    let folder = Path::new(folder);
    maps(&folder.join("maps.png"))?;
    phase(&folder.join("phase.png"))?;
    depth(&folder.join("depth.png"), count)
}

fn chart(column: usize, x: [f64; 2], y: [f64; 2], log: bool) -> Chart {
    Chart { at: [46.5 + 340.0 * column as f32, 14.5], size: [280.0, 280.0], x, y, log }
}

/// A grid from `from` to `to`.
fn grid(from: f64, to: f64, n: usize) -> impl Iterator<Item = f64> {
    (0..=n).map(move |i| from + (to - from) * i as f64 / n as f64)
}

fn average(networks: &[Vec<Seen>], layer: usize, of: impl Fn(&Seen) -> f64) -> f64 {
    networks.iter().map(|layers| of(&layers[layer])).sum::<f64>() / networks.len() as f64
}

/// Poole et al. 2016, figures 1A, 2A and 2B: the q-map, the c-map, and c over layers.
fn maps(output: &Path) -> Result<()> {
    let mut canvas = Canvas::new(1040, 330);
    let q_chart = chart(0, [0.0, 15.0], [0.0, 15.0], false);
    let c_chart = chart(1, [0.0, 1.0], [0.0, 1.0], false);
    let layers = chart(2, [0.0, 10.0], [0.0, 1.0], false);
    for (chart, end) in [(&q_chart, 15.0), (&c_chart, 1.0)] {
        chart.curve(&mut canvas, &[(0.0, 0.0), (end, end)], [0.75; 3]);
    }
    println!(
        "tanh, sigma_b {SIGMA_B}: the largest difference of networks from theory, {FEW} networks of {WIDTH} units a point"
    );
    println!("sigma_w      q*      c*   chi_1     q-map, %   c-map   c over layers");
    for (sigma_w, color) in SIGMA_W {
        let field = MeanField::new(TANH, sigma_w, SIGMA_B)?;
        let (q_star, mut off) = (field.q_star(), [0.0f64; 3]);
        let curve: Vec<_> = grid(0.0, 15.0, 150).map(|q| (q, field.q_map(q))).collect();
        q_chart.curve(&mut canvas, &curve, color);
        let curve: Vec<_> = grid(0.0, 1.0, 100).map(|c| (c, field.c_map(c))).collect();
        c_chart.curve(&mut canvas, &curve, color);
        for i in 0..4 {
            let (q, c) = ([1.0, 3.0].map(|q| q + 4.0 * f64::from(i)), [0.05, 0.15].map(|c| c + 0.2 * f64::from(i)));
            let lengths = run(&field, Inputs { q, c: [0.0; 2] }, 1, FEW, 1);
            let angles = run(&field, Inputs { q: [q_star; 2], c }, 1, FEW, 2);
            for k in 0..2 {
                let (got, want) = (average(&lengths, 1, |s| s.q[k]), field.q_map(q[k]));
                q_chart.dots(&mut canvas, &[(q[k], got)], color);
                off[0] = off[0].max(100.0 * (got / want - 1.0).abs());
                let (got, want) = (average(&angles, 1, |s| s.c[k]), field.c_map(c[k]));
                c_chart.dots(&mut canvas, &[(c[k], got)], color);
                off[1] = off[1].max((got - want).abs());
            }
        }
        let begins = [0.0, 0.9];
        let networks = run(&field, Inputs { q: [q_star; 2], c: begins }, 10, FEW, 3);
        for (k, begin) in begins.into_iter().enumerate() {
            let mut c = begin;
            let mut curve = vec![(0.0, c)];
            for layer in 1..=10 {
                c = field.c_map(c);
                curve.push((layer as f64, c));
                off[2] = off[2].max((average(&networks, layer, |s| s.c[k]) - c).abs());
            }
            layers.curve(&mut canvas, &curve, color);
            let dots: Vec<_> = (0..=10).map(|l| (l as f64, average(&networks, l, |s| s.c[k]))).collect();
            layers.dots(&mut canvas, &dots, color);
        }
        println!(
            "{sigma_w:7} {q_star:7.4} {:7.4} {:7.4} {:12.2} {:7.4} {:15.4}",
            field.c_star(),
            field.chi_1(),
            off[0],
            off[1],
            off[2]
        );
    }
    q_chart.axes(&mut canvas, &[0.0, 5.0, 10.0, 15.0], &[0.0, 5.0, 10.0, 15.0]);
    c_chart.axes(&mut canvas, &[0.0, 0.5, 1.0], &[0.0, 0.5, 1.0]);
    layers.axes(&mut canvas, &[0.0, 5.0, 10.0], &[0.0, 0.5, 1.0]);
    canvas.write(output)
}

/// Schoenholz et al. 2017, figure 1: where there is order and where chaos, and how deep a signal reaches.
fn phase(output: &Path) -> Result<()> {
    let mut canvas = Canvas::new(700, 330);
    let (x, y) = ([0.5, 4.0], [0.0, 1.0]);
    let fields = |w: f64, b: f64| MeanField::new(TANH, w.sqrt(), b.sqrt());
    // Of the colours: white at the edge, blue into order, red into chaos.
    let tint = |chaos: bool, part: f64| -> Color {
        let (full, part) = (if chaos { [0.8, 0.1, 0.1] } else { [0.0, 0.3, 0.8] }, part.clamp(0.0, 1.0) as f32);
        full.map(|v: f32| 1.0 - part * (1.0 - v))
    };
    let ([left, right], mut failed) = ([0, 1].map(|column| chart(column, x, y, false)), None);
    left.cells(&mut canvas, 70, 40, |w, b| match fields(w, b) {
        Ok(field) => tint(field.chi_1() > 1.0, 1.0 - (field.xi_c().ln() / 30f64.ln()).clamp(0.0, 1.0)),
        Err(_) => [1.0; 3],
    });
    right.cells(&mut canvas, 70, 40, |w, b| match fields(w, b) {
        Ok(field) => tint(true, 1.0 - field.c_star()),
        Err(_) => [1.0; 3],
    });
    // The edge leaves (1, 0) as sigma_b^2 = 4 / 3 q*^3, sigma_w^2 = 1 + 2 q*: cubes are even steps along it.
    let edge: Vec<(f64, f64)> = grid(0.0, 1.0, 60)
        .map(|part| part.powi(3))
        .filter_map(|b| match MeanField::critical(TANH, b.sqrt()) {
            Ok(field) => Some((field.sigma_w().powi(2), b)),
            Err(e) => {
                failed = Some(e);
                None
            }
        })
        .collect();
    if let Some(e) = failed {
        return Err(e);
    }
    println!("\ntanh, the edge of chaos: sigma_b^2, sigma_w^2, q*");
    for b in [0.0, 0.01, 0.05, 0.2, 0.5, 1.0f64] {
        let field = MeanField::critical(TANH, b.sqrt())?;
        println!("{b:7} {:7.4} {:7.4}", field.sigma_w().powi(2), field.q_star());
    }
    for chart in [&left, &right] {
        chart.curve(&mut canvas, &edge, [0.0; 3]);
        chart.axes(&mut canvas, &[1.0, 2.0, 3.0, 4.0], &[0.0, 0.5, 1.0]);
    }
    canvas.write(output)
}

/// Schoenholz et al. 2017, figure 2: how q and c approach their fixed points, and the depth scales.
fn depth(output: &Path, count: usize) -> Result<()> {
    let mut canvas = Canvas::new(700, 330);
    let (scales, decays) = (chart(0, [0.5, 4.0], [0.2, 50.0], true), chart(1, [0.0, 12.0], [1e-3, 1.0], true));
    let of = |w: f64| MeanField::new(TANH, w.sqrt(), BIAS.sqrt());
    let theory = grid(0.5, 4.0, 140).map(|w| Ok((w, of(w)?))).collect::<Result<Vec<_>>>()?;
    for (color, scale) in [(Q, MeanField::xi_q as fn(&MeanField) -> f64), (C, MeanField::xi_c)] {
        let curve: Vec<_> = theory.iter().map(|(w, field)| (*w, scale(field).min(1e9))).collect();
        scales.curve(&mut canvas, &curve, color);
    }
    println!(
        "\ntanh, sigma_b^2 {BIAS}: depth scales, theory and networks of {WIDTH} units, {count} where they have {DEEPEST} layers"
    );
    println!("sigma_w^2      q*      c*   chi_1     xi_q  networks    +-   rate, %     xi_c  networks    +-   rate, %");
    for (i, w) in WEIGHTS.into_iter().enumerate() {
        let field = of(w)?;
        let (q, c) = (field.q_star(), field.c_star());
        // A small step to each side, or below where there is no other side.
        let c_of = if c == 1.0 { [0.998, 1.0] } else { [c - 0.02, (c + 0.02).min(1.0)] };
        // As many layers for each point: what a layer leaves of a difference varies by some 3 % between networks.
        let seen = |xi: f64, q: [f64; 2], c: [f64; 2], seed: u64| {
            let layers = (xi.round() as usize).clamp(2, DEEPEST);
            (layers, run(&field, Inputs { q, c }, layers, (count * DEEPEST).div_ceil(layers), seed))
        };
        let (layers, networks) = seen(field.xi_q(), [q, 1.002 * q], c_of, 60 + i as u64);
        let xi_q = scale(&networks, layers, |s| s.q[1] - s.q[0]);
        let (layers, networks) = seen(field.xi_c(), [q; 2], c_of, 10 + i as u64);
        let xi_c = scale(&networks, layers, |s| s.c[1] - s.c[0]);
        scales.dots(&mut canvas, &[(w, xi_q.0)], Q);
        scales.dots(&mut canvas, &[(w, xi_c.0)], C);
        // How far what a layer leaves of a difference is from the theory's.
        let rate = |got: (f64, f64), want: f64| 100.0 * ((1.0 / want - 1.0 / got.0).exp() - 1.0);
        println!(
            "{w:9} {q:7.4} {c:7.4} {:7.4} {:8.4} {:9.4} {:5.3} {:9.2} {:8.4} {:9.4} {:5.3} {:9.2}",
            field.chi_1(),
            field.xi_q(),
            xi_q.0,
            xi_q.1,
            rate(xi_q, field.xi_q()),
            field.xi_c(),
            xi_c.0,
            xi_c.1,
            rate(xi_c, field.xi_c()),
        );
        if let Some(at) = [1.2, 1.55, 2.3, 3.8].iter().position(|v| *v == w) {
            let color = [[0.55, 0.75, 1.0], C, [1.0, 0.55, 0.5], [0.8, 0.1, 0.1]][at];
            let networks = run(&field, Inputs { q: [q; 2], c: [0.0, 0.5] }, 12, FEW, 40 + i as u64);
            let mut now = 0.0;
            let curve: Vec<_> = (0..=12)
                .map(|layer| {
                    let point = (f64::from(layer), (c - now).abs());
                    now = field.c_map(now);
                    point
                })
                .collect();
            decays.curve(&mut canvas, &curve, color);
            let seen: Vec<_> = (0..=12).map(|l| (l as f64, (c - average(&networks, l, |s| s.c[0])).abs())).collect();
            decays.dots(&mut canvas, &seen, color);
        }
    }
    scales.axes(&mut canvas, &[1.0, 2.0, 3.0, 4.0], &[0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0]);
    decays.axes(&mut canvas, &[0.0, 4.0, 8.0, 12.0], &[0.001, 0.01, 0.1, 1.0]);
    canvas.write(output)
}

/// The layers in which the mean of something small falls by e, between the inputs and so many layers on, and its error.
fn scale(networks: &[Vec<Seen>], layers: usize, of: impl Fn(&Seen) -> f64) -> (f64, f64) {
    let n = networks.len() as f64;
    let (first, last) = (average(networks, 0, &of), average(networks, layers, &of));
    let spread = networks.iter().map(|l| (of(&l[layers]) - last).powi(2)).sum::<f64>() / (n * (n - 1.0));
    let xi = layers as f64 / (first / last).ln();
    (xi, xi * xi / layers as f64 * spread.sqrt() / last.abs())
}
