//! The vector-Jacobian product of every block family of UNet2DModel, against differences of the network itself.

use crate::pcg;
use crate::seeded;
use undiffuse::Cancel;
use undiffuse::backend::Backend;
use undiffuse::backend::reference::Reference;
use undiffuse::denoiser::{Call, Denoiser, NetworkDenoiser, Networks};
use undiffuse::graph::vjp::vjp;
use undiffuse::model::unet2d::{self, UNet2DConfig};
use undiffuse::schedule::Level;

/// Half the distance over which a difference is taken: small for the kinks of relu, not smaller because outputs are
/// f32.
const STEP: f32 = 2e-4;
const BOUND: f64 = 2e-4;

#[test]
fn products_are_those_of_differences() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/unet.json");
    let cases: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut seen = 0;
    for case in cases["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        if name == "ddpm_cifar10_32" {
            continue;
        }
        seen += 1;
        let config = UNet2DConfig::from_json(&case["config"].to_string()).unwrap();
        let size = [0, 1].map(|i| case["size"][i].as_u64().unwrap() as usize);
        let graph = unet2d::build(&config, size).unwrap();
        let weights = seeded::Seeded::new(&graph);
        let compile = |graph| {
            let read = |n: &str, d: &_, out: &mut [f32]| weights.read(n, d, out);
            Reference.compile(graph, &read).unwrap().into()
        };
        let networks = Networks { predict: compile(&graph), gradient: Some(compile(&vjp(&graph, 0, 0).unwrap())) };
        let class_len = networks.predict.inputs().get(2).map_or(0, |d| d.elements());
        let mut denoiser = NetworkDenoiser::new(networks, 2, &vec![1.0; class_len]).unwrap();
        assert!(denoiser.has_vjp());

        let (n, m) = (denoiser.sample_dims().elements(), denoiser.output_len());
        let draw = |stream, count| pcg::uniform(5, stream, 2 * count, 1.7);
        let (x, u, v) = (draw(0, n), draw(1, n), draw(2, m));
        let cancel = Cancel::new();
        let call = Call { level: Level::variance_preserving(3.0, 0.5), first_sample: 0, cancel: &cancel };
        let mut product = vec![0.0; 2 * n];
        denoiser.vjp(&call, &x, &v, &mut product).unwrap();
        let mut moved = |by: f32| {
            let x: Vec<f32> = x.iter().zip(&u).map(|(x, u)| x + by * u).collect();
            let mut y = vec![0.0; 2 * m];
            denoiser.predict(&call, &x, &mut y).unwrap();
            y
        };
        let (ahead, behind) = (moved(STEP), moved(-STEP));
        // Both samples of the batch, each for itself.
        for s in 0..2 {
            let of = |a: &[f32], b: &[f32], n: usize| -> f64 {
                a[s * n..][..n].iter().zip(&b[s * n..][..n]).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
            };
            let difference = (of(&v, &ahead, m) - of(&v, &behind, m)) / (2.0 * f64::from(STEP));
            let exact = of(&product, &u, n);
            // Measured against the size that the product could have, because it may be near 0 by chance.
            let size = (of(&product, &product, n) * of(&u, &u, n)).sqrt();
            let error = (difference - exact).abs() / size;
            println!("{name}: {exact:.5} {difference:.5}, error {error:.1e}");
            assert!(size > 0.0 && error < BOUND, "{name}: {exact} is not {difference}");
        }
    }
    assert!(seen > 10);
}
