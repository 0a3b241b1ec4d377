//! The encoder of a latent model.

use alloc::sync::Arc;

use super::{Fitted, cut, fitted};
use crate::backend::threads::Threads;
use crate::backend::{Backend, Network};
use crate::cancel::Cancel;
use crate::error::{Result, ensure};
use crate::model::autoencoder::{AutoencoderConfig, LatentScale};
use crate::tensor::Dims;
use crate::tiles::{Axis, Overlap, Tile, tiles};
use crate::weights::{WeightSource, check_names};

/// What diffusers' `DiagonalGaussianDistribution` holds the logarithm of a variance to.
const LOGVAR: [f64; 2] = [-30.0, 20.0];

/// A compiled encoder to latents. Threads may share it.
#[derive(Clone)]
pub struct Encoder {
    network: Arc<dyn Network>,
    scale: LatentScale,
    latents: [usize; 3],
    data: [usize; 3],
    /// Rows and columns of tiles, in latents.
    axes: [Axis; 2],
    /// Pixels for a latent each way.
    factor: usize,
}

impl Encoder {
    /// Compiles the encoder of an autoencoder for images that become latents `[c, h, w]`.
    ///
    /// Where one image in one piece would take more than `within` bytes of workspace, it is encoded in tiles, which lie
    /// as those of [`Decoder::compile`](super::Decoder::compile), and whose means and logarithms of variances are
    /// blended linearly.
    ///
    /// Errors: as there.
    pub fn compile(
        config: &AutoencoderConfig,
        weights: &dyn WeightSource,
        latents: [usize; 3],
        within: usize,
        backend: &dyn Backend,
    ) -> Result<Self> {
        let [c, h, w] = latents;
        let channels = config.latent_channels();
        ensure!(
            c == channels,
            Shape,
            "the denoiser's samples have {c} channels, but the {} encodes to {channels}",
            config.class_name()
        );
        check_names(&config.parameters()?, weights)?;
        let factor = config.encoder_factor();
        // What is too large is the configuration's to refuse.
        let graph = |tile: [usize; 2]| config.encoder(tile.map(|n| n.saturating_mul(factor)));
        let Fitted { network, tile, .. } = fitted("encoding", [h, w], &graph, weights, within, backend)?;
        let axis = |n, tile| Axis::new(n, tile, 1, Overlap::usual(tile));
        let axes = [axis(h, tile[0]), axis(w, tile[1])];
        let data = [config.in_channels, h.saturating_mul(factor), w.saturating_mul(factor)];
        Ok(Self { network, scale: config.scale.clone(), latents, data, axes, factor })
    }

    /// Dimensions of what it takes, `[channels, height, width]`.
    pub fn data_dims(&self) -> Result<Dims> {
        Dims::new(&self.data)
    }

    pub(super) fn latents(&self) -> &[usize; 3] {
        &self.latents
    }

    /// Whether an image becomes a distribution of latents, an `AutoencoderKL`'s, which noise samples.
    pub fn has_posterior(&self) -> bool {
        self.network.outputs().len() > 1
    }

    /// Bytes of its compiled weights.
    pub fn weight_bytes(&self) -> usize {
        self.network.weight_bytes()
    }

    /// Tiles of an image: 1 where it is encoded in one piece.
    pub fn tiles(&self) -> usize {
        let [rows, columns] = self.axes.each_ref().map(Axis::count);
        rows * columns
    }

    /// Height and width of a tile in latents; those of a sample where it is encoded in one piece.
    pub fn tile(&self) -> [usize; 2] {
        self.axes.each_ref().map(Axis::tile)
    }

    /// The same encoder on other threads: see [`Network::on_threads`].
    pub fn on_threads(&self, threads: Arc<dyn Threads>) -> Result<Self> {
        Ok(Self { network: self.network.on_threads(threads)?, ..self.clone() })
    }

    pub(super) fn prepare(&self) -> Result<()> {
        self.network.prepare(1)
    }

    /// Floats of all logarithms of variances; of one tile of the image, of its means, of its logarithms of variances;
    /// and of the network's workspace.
    pub(super) fn parts(&self) -> Result<[usize; 5]> {
        let [th, tw] = self.tile();
        let [c, h, w] = self.latents;
        let posterior = usize::from(self.has_posterior());
        let tiled = usize::from(self.tiles() > 1);
        let image = self.network.inputs().first().map_or(0, |d| d.elements());
        let mean = c * th * tw;
        Ok([
            posterior * c * h * w,
            tiled * image,
            tiled * mean,
            tiled * posterior * mean,
            self.network.workspace_len(1)?,
        ])
    }

    /// Encodes one image.
    pub(super) fn sample(
        &self,
        data: &[f32],
        noise: Option<&[f32]>,
        x: &mut [f32],
        memory: &mut [f32],
        cancel: &Cancel,
    ) -> Result<()> {
        let [logvar, tile, mean, tile_logvar, _] = self.parts()?;
        let (logvar, rest) = cut(memory, logvar)?;
        let (tile, rest) = cut(rest, tile)?;
        let (mean, rest) = cut(rest, mean)?;
        let (tile_logvar, workspace) = cut(rest, tile_logvar)?;
        let [_, h, w] = self.latents;
        let mut run = |image: &[f32], mean: &mut [f32], logvar: &mut [f32]| {
            if self.has_posterior() {
                self.network.run(1, &[image], &mut [mean, logvar], workspace, cancel)
            } else {
                self.network.run(1, &[image], &mut [mean], workspace, cancel)
            }
        };
        if self.tiles() == 1 {
            run(data, x, logvar)?;
        } else {
            x.fill(0.0);
            logvar.fill(0.0);
            for at in tiles(&self.axes) {
                Tile::new(&self.axes, at, [self.data[1], self.data[2]]).cut(data, tile, Some(self.factor));
                run(tile, mean, tile_logvar)?;
                let to = Tile::new(&self.axes, at, [h, w]);
                to.blend(mean, x);
                to.blend(tile_logvar, logvar);
            }
        }
        let [least, most] = LOGVAR;
        for ((x, logvar), z) in x.iter_mut().zip(&*logvar).zip(noise.unwrap_or_default()) {
            let deviation = libm::exp(0.5 * f64::from(*logvar).clamp(least, most));
            *x = (f64::from(*x) + deviation * f64::from(*z)) as f32;
        }
        self.scale.to_samples(x, h * w);
        Ok(())
    }
}
