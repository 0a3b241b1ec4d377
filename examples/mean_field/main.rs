//! Mean-field theory of deep networks beside random networks of 1000 units: the figures of Poole et al. 2016 and
//! Schoenholz et al. 2017, drawn and printed.
//!
//! `cargo run --release --features training --example mean_field -- OUT.png`
//!
//! From the upper left: the phase diagram of tanh (blue order, red chaos) with the edges of tanh and erf (thin), and on
//! the axis leaky ReLU of slope 0.05 as the networks of 2015 begin (black, sigma_w = 1) and its edge (green); q* and c*
//! by sigma_w for sigma_b = 0.05, 0.3 and 1 of tanh; below, the depth scales xi_c (thick) and xi_q by sigma_w^2 for
//! sigma_b^2 = 0.05, 0.1 and 0.3; the c-map for sigma_b = 0.3, sigma_w = 1.3, 2.5 and 4; what is left, by layers and in
//! powers of ten, of the square of a small difference in networks of leaky ReLU: as those of 2015 begin (black), at the
//! edge (green), in chaos (red). Lines are the theory, dots the networks.

mod chart;

#[path = "../plot_2015/canvas.rs"]
#[allow(dead_code)]
mod canvas;

use std::path::Path;

use canvas::{Canvas, Color};
use chart::Chart;
use undiffuse::Result;
use undiffuse::noise::Stream;
use undiffuse::training::mean_field::{MeanField, Nonlinearity};

const WIDTH: usize = 1000;
const LEAKY: Nonlinearity = Nonlinearity::LeakyRelu { slope: 0.05 };
const COLORS: [Color; 3] = [[0.1, 0.3, 0.8], [0.9, 0.5, 0.0], [0.8, 0.1, 0.2]];
const BLACK: Color = [0.1; 3];
const GREEN: Color = [0.0, 0.55, 0.2];

fn main() -> Result<()> {
    let Some(output) = std::env::args().nth(1) else {
        eprintln!("usage: mean_field OUT.png");
        std::process::exit(2);
    };
    let mut canvas = Canvas::new(1080, 640);
    let chart = |column: usize, row: usize, x: [f64; 2], y: [f64; 2]| Chart {
        at: [60.0 + 360.0 * column as f32, 30.0 + 320.0 * row as f32],
        size: [280.0, 230.0],
        x,
        y,
    };
    phases(&mut canvas, &chart(0, 0, [0.0, 3.0], [0.0, 1.5]))?;
    fixed_points(&mut canvas, &chart(1, 0, [0.0, 4.0], [0.0, 15.0]), &chart(2, 0, [0.0, 4.0], [0.0, 1.05]))?;
    depths(&mut canvas, &chart(0, 1, [0.0, 4.0], [0.0, 30.0]))?;
    maps(&mut canvas, &chart(1, 1, [0.0, 1.0], [0.0, 1.0]))?;
    differences(&mut canvas, &chart(2, 1, [0.0, 20.0], [-8.0, 4.0]))?;
    canvas.write(Path::new(&output))
}

fn phases(canvas: &mut Canvas, chart: &Chart) -> Result<()> {
    let edge = |phi, b: f64| MeanField::critical(phi, b).map(|f| [f.sigma_w(), b]);
    let rows = chart.size[1] as usize;
    for row in 0..rows {
        let b = 1.5 * (1.0 - (row as f64 + 0.5) / rows as f64);
        let x = chart.place(edge(Nonlinearity::Tanh, b)?)[0];
        let (left, right, top) = (chart.at[0], chart.at[0] + chart.size[0], chart.at[1] as usize + row);
        canvas.fill([left as usize, top], [(x - left) as usize, 1], [0.86, 0.91, 1.0]);
        canvas.fill([x as usize, top], [(right - x) as usize, 1], [1.0, 0.88, 0.86]);
    }
    let curve = |phi| (0..=60).map(move |i| edge(phi, 0.025 * f64::from(i))).collect::<Result<Vec<_>>>();
    chart.curve(canvas, curve(Nonlinearity::Tanh)?, 3.0, BLACK);
    chart.curve(canvas, curve(Nonlinearity::Erf)?, 1.5, BLACK);
    chart.axes(canvas, [1.0, 0.5], ["sigma w", "sigma b"]);
    chart.dot(canvas, [1.0, 0.0], BLACK);
    chart.dot(canvas, edge(LEAKY, 0.0)?, GREEN);
    println!(
        "edge of chaos of tanh: sigma_b^2 0.05 at sigma_w^2 {:.4}",
        edge(Nonlinearity::Tanh, 0.05f64.sqrt())?[0].powi(2)
    );
    println!("edge of chaos of leaky ReLU, slope 0.05: sigma_w {:.4}\n", edge(LEAKY, 0.0)?[0]);
    Ok(())
}

fn fixed_points(canvas: &mut Canvas, of_q: &Chart, of_c: &Chart) -> Result<()> {
    println!("tanh, {WIDTH} units\nsigma_w sigma_b     q*  networks          off      c*  networks          off");
    for (b, color) in [0.05, 0.3, 1.0].into_iter().zip(COLORS) {
        let fields = (1..=80).map(|i| MeanField::new(Nonlinearity::Tanh, 0.05 * f64::from(i), b));
        let fields = fields.collect::<Result<Vec<_>>>()?;
        of_q.curve(canvas, fields.iter().map(|f| [f.sigma_w(), f.q_star()]), 2.0, color);
        of_c.curve(canvas, fields.iter().map(|f| [f.sigma_w(), f.c_star()]), 2.0, color);
        for w in [0.5, 1.6, 2.5, 3.5] {
            let field = MeanField::new(Nonlinearity::Tanh, w, b)?;
            // After 12 layers q and c are where they stay, but near the edge; the next 6 are counted.
            let runs: Vec<_> = (0..16).map(|net| Pair::new(net, 1.0, 0.5).run(&field, 18)).collect();
            let of = |of: &dyn Fn(&[f64; 3]) -> f64| {
                let each: Vec<f64> = runs.iter().map(|run| run[12..].iter().map(of).sum::<f64>() / 6.0).collect();
                mean(&each)
            };
            let ((q, dq), (c, dc)) = (of(&|s| s[0]), of(&|s| s[1]));
            let off = |got: f64, want: f64| 100.0 * (got / want - 1.0);
            println!(
                "{w:7} {b:7} {:6.4} {q:6.4} +- {dq:.4} {:7.2} % {:7.4} {c:7.4} +- {dc:.4} {:7.2} %",
                field.q_star(),
                off(q, field.q_star()),
                field.c_star(),
                off(c, field.c_star())
            );
            of_q.dot(canvas, [w, q], color);
            of_c.dot(canvas, [w, c], color);
        }
    }
    of_q.axes(canvas, [1.0, 5.0], ["sigma w", "q*"]);
    of_c.axes(canvas, [1.0, 0.5], ["sigma w", "c*"]);
    Ok(())
}

fn depths(canvas: &mut Canvas, chart: &Chart) -> Result<()> {
    for (b, color) in [0.05f64, 0.1, 0.3].into_iter().zip(COLORS) {
        let fields = (2..=200).map(|i| MeanField::new(Nonlinearity::Tanh, (0.02 * f64::from(i)).sqrt(), b.sqrt()));
        let fields = fields.collect::<Result<Vec<_>>>()?;
        let at = |f: &MeanField, xi: f64| [f.sigma_w().powi(2), xi];
        chart.curve(canvas, fields.iter().map(|f| at(f, f.xi_c())), 2.5, color);
        chart.curve(canvas, fields.iter().map(|f| at(f, f.xi_q())), 1.0, color);
    }
    chart.axes(canvas, [1.0, 10.0], ["sigma w  sigma w", "xi c  xi q"]);
    Ok(())
}

fn maps(canvas: &mut Canvas, chart: &Chart) -> Result<()> {
    println!("\nthe c-map of tanh, sigma_b 0.3\nsigma_w    c  theory  networks");
    chart.curve(canvas, [[0.0, 0.0], [1.0, 1.0]], 1.0, [0.7; 3]);
    for (w, color) in [1.3, 2.5, 4.0].into_iter().zip(COLORS) {
        let field = MeanField::new(Nonlinearity::Tanh, w, 0.3)?;
        chart.curve(canvas, (0..=50).map(|i| 0.02 * f64::from(i)).map(|c| [c, field.c_map(c)]), 2.0, color);
        for c in [0.0, 0.25, 0.5, 0.75, 0.95] {
            let each: Vec<f64> = (0..24).map(|net| Pair::new(net, field.q_star(), c).run(&field, 1)[0][1]).collect();
            let (got, error) = mean(&each);
            println!("{w:7} {c:4} {:7.4} {got:7.4} +- {error:.4}", field.c_map(c));
            chart.dot(canvas, [c, got], color);
        }
    }
    chart.axes(canvas, [0.5, 0.5], ["c", "c of a layer more"]);
    Ok(())
}

fn differences(canvas: &mut Canvas, chart: &Chart) -> Result<()> {
    println!(
        "\nleaky ReLU, slope 0.05: what 20 layers leave of the square of a difference\nsigma_w   chi_1   theory  networks"
    );
    let edge = MeanField::critical(LEAKY, 0.0)?;
    let fields = [MeanField::new(LEAKY, 1.0, 0.0)?, edge, MeanField::new(LEAKY, 1.6, 0.0)?];
    for (field, color) in fields.iter().zip([BLACK, GREEN, COLORS[2]]) {
        let left = |l: f64| [l, l * field.chi_1().log10()];
        chart.curve(canvas, (0..=20).map(|l| left(f64::from(l))), 2.0, color);
        let c = 1.0 - 1e-6;
        let runs: Vec<Vec<f64>> = (0..16)
            .map(|net| Pair::new(net, 1.0, c).run(field, 20).iter().map(|[.., dd]| dd / 2e-6).collect())
            .collect();
        let at = |l: usize| mean(&runs.iter().map(|run| run[l]).collect::<Vec<_>>());
        for l in (0..20).step_by(3) {
            chart.dot(canvas, [(l + 1) as f64, at(l).0.log10()], color);
        }
        let (got, error) = at(19);
        println!(
            "{:7.4} {:7.4} {:.2e} {got:.2e} +- {error:.0e}",
            field.sigma_w(),
            field.chi_1(),
            field.chi_1().powi(20)
        );
    }
    chart.axes(canvas, [5.0, 2.0], ["layer", "log of a difference"]);
    Ok(())
}

/// Two inputs of a random network.
struct Pair {
    stream: Stream,
    x: Vec<f64>,
    /// What the second has beside the first, so that small differences keep their digits.
    difference: Vec<f64>,
}

impl Pair {
    /// Of variance q and correlation c, not only in the mean; `net` numbers networks.
    fn new(net: u64, q: f64, c: f64) -> Self {
        let mut stream = Stream::new(17, net, 0);
        let mut draw = || (0..WIDTH).map(|_| stream.normal()).collect::<Vec<f64>>();
        let (mut x, mut y) = (draw(), draw());
        let norm = (dot(&x, &x) / q).sqrt();
        x.iter_mut().for_each(|x| *x /= norm);
        let along = dot(&x, &y) / q;
        y.iter_mut().zip(&x).for_each(|(y, x)| *y -= along * x);
        let norm = (dot(&y, &y) / q).sqrt();
        let across = (1.0 - c * c).sqrt() / norm;
        let difference = x.iter().zip(&y).map(|(x, y)| (c - 1.0) * x + across * y).collect();
        Self { stream, x, difference }
    }

    /// Variance, correlation and the mean square of the difference after each layer.
    fn run(mut self, field: &MeanField, layers: usize) -> Vec<[f64; 3]> {
        (0..layers).map(|_| self.layer(field)).collect()
    }

    fn layer(&mut self, field: &MeanField) -> [f64; 3] {
        let phi = |x: f64| match field.nonlinearity() {
            Nonlinearity::LeakyRelu { slope } => x.max(slope * x),
            _ => x.tanh(),
        };
        let h: Vec<f64> = self.x.iter().map(|&x| phi(x)).collect();
        let dh: Vec<f64> = self.x.iter().zip(&self.difference).map(|(&x, &d)| phi(x + d) - phi(x)).collect();
        let scale = field.sigma_w() / (WIDTH as f64).sqrt();
        for (x, difference) in self.x.iter_mut().zip(&mut self.difference) {
            let (mut sum, mut change) = (0.0, 0.0);
            for (h, dh) in h.iter().zip(&dh) {
                let w = self.stream.normal();
                sum += w * h;
                change += w * dh;
            }
            *x = scale * sum + field.sigma_b() * self.stream.normal();
            *difference = scale * change;
        }
        // 1 - c by the difference: |x|^2 + |y|^2 - |x - y|^2 is twice the product.
        let y: Vec<f64> = self.x.iter().zip(&self.difference).map(|(x, d)| x + d).collect();
        let (xx, yy, dd) = (dot(&self.x, &self.x), dot(&y, &y), dot(&self.difference, &self.difference));
        let geometric = (xx * yy).sqrt();
        let means = (xx.sqrt() - yy.sqrt()).powi(2);
        [xx, 1.0 - (dd - means) / (2.0 * geometric), dd]
    }
}

/// The mean product of entries.
fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>() / x.len() as f64
}

/// The mean with its standard error.
fn mean(each: &[f64]) -> (f64, f64) {
    let n = each.len() as f64;
    let mean = each.iter().sum::<f64>() / n;
    (mean, (each.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0) / n).sqrt())
}
