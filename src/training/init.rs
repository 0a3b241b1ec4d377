//! Weights to start a training from.
//!
//! They follow the roles that a [`ModelConfig`] gives its parameters. A network of 2015 begins as the isotropic model:
//! its readout is 0, so z_mu, z_Sigma or the logits are. The rest is as in the authors' code, convolutions drawn with
//! deviation `sqrt(1 / filters) / (kh kw)` as images are smooth, dense matrices orthogonal, biases 0. A `UNet2DModel`
//! has its convolutions and matrices uniform within `1 / sqrt(fan in)`, as PyTorch has them, factors of norms 1 and
//! offsets 0.
//!
//! [`InitOptions::critical`] puts the hidden layers of an `Mlp2015` at the edge of chaos instead
//! ([`mean_field`](super::mean_field)), so that it can be trained however many they are.

use alloc::vec::Vec;

use super::mean_field::{MeanField, Nonlinearity};
use crate::error::{Result, err};
use crate::graph::{Graph, Param};
use crate::memory::{room, zeros};
use crate::model::{ModelConfig, ParamRole};
use crate::noise::{NoiseSource, Seeded};

/// What can be chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InitOptions {
    /// The readouts of the 2015 networks: `false` (the default) for zeros; `true` for an orthogonal matrix, as in the
    /// authors' code, or a table drawn with deviation `1 / sqrt(row)`.
    pub draw_readout: bool,
    /// The deviation of the centres of radial basis functions: that of the data, 1 by default.
    pub centre_scale: f64,
    /// Their widths; `None` is `2 centre_scale / units^(1 / D)`, about the distance of neighbours.
    pub width: Option<f64>,
    /// sigma_b of hidden layers at the edge of chaos: matrices are orthogonal times its sigma_w, biases normal of
    /// deviation sigma_b. `None` (the default) for orthogonal matrices and biases of 0. For `Mlp2015` with tanh, ReLU
    /// or leaky ReLU; see [`MeanField::critical`], 0 suits all of them.
    pub critical: Option<f64>,
}

impl Default for InitOptions {
    fn default() -> Self {
        Self { draw_readout: false, centre_scale: 1.0, width: None, critical: None }
    }
}

/// Initial values of each parameter of `graph`, in its order: a function of the seed, the parameter's place and its
/// dimensions. `graph` is what [`ModelConfig::build`] made of `model`.
///
/// Errors: kind `OutOfMemory`; `Unsupported` and `InvalidArgument` for `critical` where there is no such edge.
///
/// ```
/// use undiffuse::model::ModelConfig;
/// use undiffuse::training::init::{InitOptions, initial};
///
/// let model = ModelConfig::from_json(r#"{"_class_name": "Rbf2015", "num_train_timesteps": 40}"#)?;
/// let graph = model.build(None)?;
/// let weights = initial(&model, &graph, &InitOptions::default(), 0)?;
/// let readout = graph.params().iter().position(|p| p.name == "readout.weight").unwrap();
/// assert!(weights[readout].iter().all(|&w| w == 0.0));
/// # Ok::<(), undiffuse::Error>(())
/// ```
pub fn initial(model: &ModelConfig, graph: &Graph, options: &InitOptions, seed: u64) -> Result<Vec<Vec<f32>>> {
    let mut noise = Seeded::new(seed);
    let edge = match options.critical {
        Some(_) => layers(model, options)?,
        None => None,
    };
    let of = |(place, param): (usize, &Param)| {
        let mut values = zeros(&param.name, param.dims.elements())?;
        fill(model, param, options, place as u64, &mut noise, &mut values)?;
        if let Some(edge) = edge.filter(|_| param.name.starts_with("hidden.")) {
            bring_to(&edge, param, place as u64, &mut noise, &mut values)?;
        }
        Ok(values)
    };
    graph.params().iter().enumerate().map(of).collect()
}

/// The hidden layers that [`initial`] makes, the one of them that lets least through, where the theory of
/// [`mean_field`](super::mean_field) has them: those of an `Mlp2015`.
///
/// Errors: of `critical`.
pub(super) fn layers(model: &ModelConfig, options: &InitOptions) -> Result<Option<MeanField>> {
    let ModelConfig::Mlp2015(c) = model else {
        return match options.critical {
            None => Ok(None),
            Some(_) => Err(err!(
                Unsupported,
                "init.critical is for Mlp2015, not for {}, whose layers are no fully connected stack of one kind",
                model.class_name()
            )),
        };
    };
    match (Nonlinearity::of(c.act_fn), options.critical) {
        (Some(phi), Some(sigma_b)) => MeanField::critical(phi, sigma_b).map(Some),
        (Some(phi), None) => {
            // An orthogonal matrix that has more rows than columns has columns of length 1, so that a row's is below
            // it.
            let widths = || c.hidden_features.iter();
            let grows = widths().zip(widths().skip(1)).map(|(from, to)| (*from as f64 / *to as f64).min(1.0));
            MeanField::new(phi, libm::sqrt(grows.fold(1.0, f64::min)), 0.0).map(Some)
        }
        (None, None) => Ok(None),
        (None, Some(_)) => Err(err!(
            Unsupported,
            "init.critical is for act_fn tanh, relu and leaky_relu; {:?} has no edge of chaos here",
            c.act_fn
        )),
    }
}

/// A hidden layer's orthogonal matrix or biases of 0 with the variances of `edge`.
fn bring_to(edge: &MeanField, param: &Param, place: u64, noise: &mut Seeded, values: &mut [f32]) -> Result<()> {
    let (rows, fan_in) = (param.dims.channels(), param.dims.positions());
    let scale = if param.name.ends_with(".bias") {
        noise.normal(place, 0, values.len(), values)?;
        edge.sigma_b()
    } else {
        edge.sigma_w() * libm::sqrt((rows as f64 / fan_in as f64).max(1.0))
    };
    values.iter_mut().for_each(|v| *v = (f64::from(*v) * scale) as f32);
    Ok(())
}

fn fill(
    model: &ModelConfig,
    param: &Param,
    options: &InitOptions,
    place: u64,
    noise: &mut Seeded,
    out: &mut [f32],
) -> Result<()> {
    let n = out.len();
    let (rows, fan_in) = (param.dims.channels(), param.dims.positions());
    let unet = matches!(model, ModelConfig::UNet2D(_));
    let role = match model.role(param) {
        // A row of a table is a matrix by itself, for which it means nothing to be orthogonal to the others.
        ParamRole::Readout if options.draw_readout && !model.has_table_of_readouts() => ParamRole::Dense,
        role => role,
    };
    let mut normal = |out: &mut [f32], deviation: f64| -> Result<()> {
        noise.normal(place, 0, n, out)?;
        out.iter_mut().for_each(|v| *v = (f64::from(*v) * deviation) as f32);
        Ok(())
    };
    match role {
        ParamRole::Conv | ParamRole::Dense if unet => {
            noise.uniform(place, 0, n, out)?;
            let bound = 1.0 / libm::sqrt(fan_in as f64);
            out.iter_mut().for_each(|v| *v = ((2.0 * f64::from(*v) - 1.0) * bound) as f32);
        }
        ParamRole::Conv => {
            let window = param.dims.as_slice().get(2..).map_or(1, |w| w.iter().product::<usize>());
            normal(out, libm::sqrt(1.0 / rows as f64) / window as f64)?;
        }
        ParamRole::Dense => {
            normal(out, 1.0)?;
            orthogonal(out, rows, fan_in)?;
        }
        ParamRole::Centre => normal(out, options.centre_scale)?,
        ParamRole::Width => {
            let width = options.width.unwrap_or_else(|| {
                let dimensions = model.features().unwrap_or(1).max(1);
                2.0 * options.centre_scale * libm::pow(n as f64, -1.0 / dimensions as f64)
            });
            out.fill(width as f32);
        }
        ParamRole::Norm => out.fill(1.0),
        ParamRole::Embedding => normal(out, 1.0)?,
        ParamRole::Readout if options.draw_readout => normal(out, 1.0 / libm::sqrt(fan_in as f64))?,
        ParamRole::Bias | ParamRole::Readout => out.fill(0.0),
    }
    Ok(())
}

/// Makes the rows of a matrix (its columns, if they are fewer) orthonormal, in their order, by Gram and Schmidt with a
/// second pass. Sums in f64.
fn orthogonal(m: &mut [f32], rows: usize, columns: usize) -> Result<()> {
    let (count, len) = (rows.min(columns), rows.max(columns));
    // Vector k's element i lies at m[k * step + i * stride].
    let (step, stride) = if rows <= columns { (columns, 1) } else { (1, columns) };
    let mut vectors: Vec<f64> = room("an orthogonal matrix", m.len())?;
    vectors.extend((0..count).flat_map(|k| (0..len).map(move |i| k * step + i * stride)).map(|at| f64::from(m[at])));
    for k in 0..count {
        let (done, rest) = vectors.split_at_mut(k * len);
        let v = &mut rest[..len];
        for _ in 0..2 {
            for u in done.chunks_exact(len) {
                let dot: f64 = u.iter().zip(&*v).map(|(u, v)| u * v).sum();
                v.iter_mut().zip(u).for_each(|(v, u)| *v -= dot * u);
            }
        }
        let norm = libm::sqrt(v.iter().map(|v| v * v).sum());
        v.iter_mut().for_each(|v| *v /= norm);
    }
    for (k, v) in vectors.chunks_exact(len).enumerate() {
        for (i, v) in v.iter().enumerate() {
            m[k * step + i * stride] = *v as f32;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cancel;
    use crate::backend::Backend;
    use crate::backend::reference::Reference;
    use crate::tensor::Dims;
    use alloc::vec;

    fn model(json: &str) -> (ModelConfig, Graph) {
        let model = ModelConfig::from_json(json).unwrap();
        let graph = model.build(None).unwrap();
        (model, graph)
    }

    const IMAGES: &str = r#"{"_class_name": "Multiscale2015", "scales": 2, "conv_channels": [32, 24], "tied_biases": false, "sample_size": 8,
        "dense_channels": [40], "dense_out_channels": 2, "upper_channels": [16], "num_train_timesteps": 30}"#;
    const POINTS: &str = r#"{"_class_name": "Rbf2015", "num_train_timesteps": 6}"#;
    const BITS: &str = r#"{"_class_name": "Mlp2015", "num_train_timesteps": 6}"#;
    const UNET: &str = r#"{"block_out_channels": [8, 16], "down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "sample_size": 8,
        "up_block_types": ["AttnUpBlock2D", "UpBlock2D"], "norm_num_groups": 4, "layers_per_block": 1, "num_class_embeds": 3}"#;

    fn of(json: &str, options: &InitOptions, name: &str) -> (Dims, Vec<f32>) {
        let (model, graph) = model(json);
        let place = graph.params().iter().position(|p| p.name == name).unwrap_or_else(|| panic!("{name}"));
        (graph.params()[place].dims, initial(&model, &graph, options, 3).unwrap().swap_remove(place))
    }

    fn deviation(v: &[f32]) -> f64 {
        libm::sqrt(v.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>() / v.len() as f64)
    }

    #[test]
    fn a_network_of_2015_begins_at_zero() {
        for json in [IMAGES, POINTS, BITS] {
            let (model, graph) = model(json);
            let run = |options: &InitOptions| {
                let weights = initial(&model, &graph, options, 1).unwrap();
                let read = |name: &str, _: &Dims, out: &mut [f32]| {
                    let place = graph.params().iter().position(|p| p.name == name).unwrap();
                    out.copy_from_slice(&weights[place]);
                    Ok(())
                };
                let network = Reference.compile(&graph, &read).unwrap();
                let x: Vec<f32> = (0..network.inputs()[0].elements()).map(|i| (i % 7) as f32 - 3.0).collect();
                let mut y = vec![f32::NAN; network.outputs()[0].elements()];
                network.run(1, &[&x, &[5.0]], &mut [&mut y], &mut [], &Cancel::new()).unwrap();
                y
            };
            assert!(run(&InitOptions::default()).iter().all(|&y| y == 0.0), "{json}");
            let drawn = run(&InitOptions { draw_readout: true, ..Default::default() });
            assert!(drawn.iter().all(|y| y.is_finite()) && drawn.iter().any(|&y| y != 0.0), "{json}");
        }
    }

    #[test]
    fn values_are_of_their_roles() {
        let options = InitOptions { draw_readout: true, ..Default::default() };
        let (_, conv) = of(IMAGES, &options, "conv.1.0.weight");
        let expected = libm::sqrt(1.0 / 24.0) / 9.0;
        assert!((deviation(&conv) / expected - 1.0).abs() < 4.0 * libm::sqrt(0.5 / conv.len() as f64));
        assert!(of(IMAGES, &options, "conv.1.0.bias").1.iter().all(|&b| b == 0.0));
        let (_, centres) = of(POINTS, &InitOptions { centre_scale: 2.0, ..options }, "basis.centres");
        assert!((deviation(&centres) / 2.0 - 1.0).abs() < 4.0 * libm::sqrt(0.5 / 32.0));
        assert_eq!(of(POINTS, &options, "basis.widths").1, [0.5; 16]);
        assert_eq!(of(POINTS, &InitOptions { width: Some(0.25), ..options }, "basis.widths").1, [0.25; 16]);
        let (dims, w) = of(UNET, &options, "conv_in.weight");
        let bound = 1.0 / libm::sqrt(dims.positions() as f64) as f32;
        assert!(w.iter().all(|v| v.abs() <= bound) && w.iter().any(|v| v.abs() > 0.9 * bound));
        assert_eq!(of(UNET, &options, "conv_norm_out.weight").1, [1.0; 8]);
        assert!((deviation(&of(UNET, &options, "class_embedding.weight").1) - 1.0).abs() < 0.4);
    }

    #[test]
    fn dense_matrices_are_orthogonal_whichever_side_is_longer() {
        for (json, name) in [
            (IMAGES, "dense.0.weight"),
            (IMAGES, "dense.1.weight"),
            (BITS, "hidden.0.weight"),
            (BITS, "hidden.1.weight"),
        ] {
            let (dims, m) = of(json, &InitOptions::default(), name);
            let (rows, columns) = (dims.channels(), dims.positions());
            let (count, len, wide) = (rows.min(columns), rows.max(columns), rows <= columns);
            let at = |k: usize, i: usize| f64::from(if wide { m[k * columns + i] } else { m[i * columns + k] });
            for (a, b) in (0..count).flat_map(|a| (0..count).map(move |b| (a, b))) {
                let dot: f64 = (0..len).map(|i| at(a, i) * at(b, i)).sum();
                assert!((dot - f64::from(u8::from(a == b))).abs() < 1e-6, "{name}: {a} and {b}: {dot}");
            }
        }
    }

    #[test]
    fn hidden_layers_come_to_the_edge_of_chaos() {
        let tanh = r#"{"_class_name": "Mlp2015", "act_fn": "tanh", "features": 8, "hidden_features": [40, 60, 60], "num_train_timesteps": 6}"#;
        let options = InitOptions { critical: Some(0.2), ..Default::default() };
        let edge = MeanField::critical(Nonlinearity::Tanh, 0.2).unwrap();
        for (name, fan_in) in [("hidden.0.weight", 8.0), ("hidden.1.weight", 40.0), ("hidden.2.weight", 60.0)] {
            // An orthogonal matrix has the same sum of squares whatever was drawn.
            let sigma = deviation(&of(tanh, &options, name).1) * libm::sqrt(fan_in);
            assert!((sigma / edge.sigma_w() - 1.0).abs() < 1e-6, "{name}: {sigma}");
        }
        let biases = of(tanh, &options, "hidden.2.bias").1;
        assert!((deviation(&biases) / 0.2 - 1.0).abs() < 4.0 * libm::sqrt(0.5 / 60.0));
        assert!(of(tanh, &options, "readout.bias").1.iter().all(|&b| b == 0.0));
        let (leaky, _) = model(BITS);
        assert!(layers(&leaky, &InitOptions::default()).unwrap().unwrap().chi_1() < 0.502);
        assert_eq!(
            layers(&leaky, &InitOptions { critical: Some(0.0), ..Default::default() }).unwrap().unwrap().xi_c(),
            f64::INFINITY
        );
        // Where there is none it is refused by name, and reported as none.
        for (json, says) in [
            (IMAGES, "not for Multiscale2015"),
            (POINTS, "not for Rbf2015"),
            (UNET, "not for UNet2DModel"),
            (r#"{"_class_name": "Mlp2015", "act_fn": "silu", "num_train_timesteps": 6}"#, "Silu has no edge"),
        ] {
            let (model, graph) = model(json);
            let e = initial(&model, &graph, &InitOptions { critical: Some(0.0), ..Default::default() }, 0).unwrap_err();
            assert!(e.message().contains(says), "{e}");
            assert_eq!(layers(&model, &InitOptions::default()).unwrap(), None);
        }
        let (model, graph) = model(BITS);
        assert!(initial(&model, &graph, &options, 0).unwrap_err().message().contains("sigma_b = 0 only"));
    }

    #[test]
    fn a_seed_gives_the_same_values_again_and_another_others() {
        let (model, graph) = model(IMAGES);
        let draw = |seed| initial(&model, &graph, &InitOptions::default(), seed).unwrap();
        assert_eq!(draw(4), draw(4));
        let (a, b) = (draw(4), draw(5));
        assert_ne!(a[0], b[0]);
        // Of equal dimensions, but each its own.
        let place = |name: &str| graph.params().iter().position(|p| p.name == name).unwrap();
        assert_ne!(a[place("conv.0.0.weight")], a[place("conv.0.1.weight")]);
    }
}
