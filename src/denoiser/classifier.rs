//! A network that tells classes, for guidance.

use alloc::vec::Vec;

use super::{Call, Networks, check_batch, check_gave, check_given};
use crate::error::{Result, ensure, err};
use crate::memory::zeros;
use crate::tensor::Dims;

/// The gradient of log p(c | x_t) of a network that was trained to tell the class of noisy samples: inputs a sample and
/// the level's timestep `[1]`, output one logit for each class.
///
/// Sample number i is guided to entry i modulo the length of the list of classes. All memory is allocated when it is
/// made; a call allocates nothing. It belongs into the closure of a [`Classifier`](crate::posterior::Classifier):
///
/// ```no_run
/// # fn f(mut network: undiffuse::denoiser::NetworkClassifier) -> undiffuse::Result<()> {
/// use undiffuse::posterior::{Classifier, ClassifierRule};
///
/// let cancel = undiffuse::Cancel::new();
/// let evidence = Classifier::new("digits", 1.0, ClassifierRule::Score, |at, x, out| {
///     let call = undiffuse::denoiser::Call { level: at.level, first_sample: at.first_sample, cancel: &cancel };
///     network.gradient(&call, x, out)
/// })?;
/// # Ok(()) }
/// ```
pub struct NetworkClassifier {
    networks: Networks,
    classes: Vec<usize>,
    dims: Dims,
    logits: usize,
    max_batch: usize,
    workspace: usize,
    /// Timesteps, logits, the gradient network's logits, and the workspace.
    memory: Vec<f32>,
}

impl NetworkClassifier {
    /// For batches of up to `max_batch` samples.
    ///
    /// Errors: kind `InvalidArgument` for a network with other inputs or outputs, without a gradient network of its
    /// own, for a batch of 0, no classes or a class that it does not know; kind `OutOfMemory`.
    pub fn new(networks: Networks, max_batch: usize, classes: &[usize]) -> Result<Self> {
        let (inputs, outputs) = (networks.predict.inputs(), networks.predict.outputs());
        let (&[dims, time], &[output]) = (inputs, outputs) else {
            return Err(err!(
                InvalidArgument,
                "the classifier has inputs {inputs:?} and outputs {outputs:?}, expected a sample and a timestep, and logits"
            ));
        };
        ensure!(time.as_slice() == [1], InvalidArgument, "the classifier's timestep is {time}, expected [1]");
        let gradient = networks
            .gradient
            .as_ref()
            .ok_or_else(|| err!(InvalidArgument, "the classifier has no gradient network, which guidance needs"))?;
        ensure!(
            gradient.inputs() == [dims, time, output] && gradient.outputs() == [output, dims],
            InvalidArgument,
            "the gradient network is not of this classifier"
        );
        let logits = output.elements();
        ensure!(!classes.is_empty(), InvalidArgument, "no classes to guide to, expected at least one");
        if let Some(class) = classes.iter().find(|&&c| c >= logits) {
            return Err(err!(InvalidArgument, "class {class} of a classifier that knows {logits}"));
        }
        let workspace = networks.predict.workspace_len(max_batch)?.max(gradient.workspace_len(max_batch)?);
        let total = logits
            .checked_mul(2)
            .and_then(|l| l.checked_add(1)?.checked_mul(max_batch)?.checked_add(workspace))
            .ok_or_else(|| err!(OutOfMemory, "a batch of {max_batch} is too large for this machine"))?;
        let memory = zeros("a classifier", total)?;
        Ok(Self { classes: classes.into(), dims, logits, max_batch, workspace, memory, networks })
    }

    /// Writes the gradient for `x`, `[batch, ...dims]`, to `out`, as long. Two network calls, one of them with its
    /// backward pass.
    ///
    /// Errors: kind `Shape` for wrong lengths, `InvalidArgument` for too large a batch, `NonFinite`, `Cancelled`, and
    /// the network's.
    pub fn gradient(&mut self, call: &Call<'_>, x: &[f32], out: &mut [f32]) -> Result<()> {
        let n = self.dims.elements();
        let batch = check_batch("classifier", n, x, n, out)?;
        check_given("classifier", "x", x)?;
        ensure!(
            (1..=self.max_batch).contains(&batch),
            InvalidArgument,
            "the classifier got {batch} samples, expected 1 to {}",
            self.max_batch
        );
        let fixed = self.memory.len() - self.workspace;
        let (rest, workspace) = self.memory.split_at_mut(fixed);
        let (time, rest) = rest.split_at_mut(self.max_batch);
        let (logits, unused) = rest.split_at_mut(self.max_batch * self.logits);
        let len = batch * self.logits;
        let (time, logits, unused) = (&mut time[..batch], &mut logits[..len], &mut unused[..len]);
        time.fill(call.level.timestep as f32);
        self.networks.predict.run(batch, &[x, time], &mut [logits], workspace, call.cancel)?;
        // d log softmax_c / d logits = [c] - softmax.
        let kinds = self.classes.len() as u64;
        for (row, sample) in logits.chunks_exact_mut(self.logits).zip(call.first_sample..=u64::MAX) {
            let max = row.iter().fold(f32::NEG_INFINITY, |m, v| m.max(*v));
            let sum: f64 = row.iter().map(|v| libm::exp(f64::from(*v - max))).sum();
            row.iter_mut().for_each(|v| *v = (-libm::exp(f64::from(*v - max)) / sum) as f32);
            let class = self.classes.get((sample % kinds) as usize).and_then(|&c| row.get_mut(c));
            class.into_iter().for_each(|v| *v += 1.0);
        }
        match &self.networks.gradient {
            Some(gradient) => {
                gradient.run(batch, &[x, time, logits], &mut [unused, &mut *out], workspace, call.cancel)?;
            }
            None => return Err(err!(InvalidArgument, "the classifier has no gradient network")),
        }
        check_gave("classifier", call, n, out)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::backend::{Backend, reference::Reference};
    use crate::graph::{Activation, Graph, GraphBuilder, vjp::vjp};
    use crate::schedule::Level;

    static CANCEL: crate::Cancel = crate::Cancel::new();

    fn graph() -> Graph {
        let mut g = GraphBuilder::new();
        let x = g.input("x", &[4]).unwrap();
        let t = g.input("t", &[1]).unwrap();
        let t = g.affine(t, 0.001, 0.0).unwrap();
        let both = g.concat(&[x, t]).unwrap();
        let hidden = g.linear("a", both, 6, true).unwrap();
        let hidden = g.activation(hidden, Activation::Silu).unwrap();
        let logits = g.linear("b", hidden, 3, true).unwrap();
        g.output("logits", logits).unwrap();
        g.finish().unwrap()
    }

    fn networks() -> Networks {
        let read = |name: &str, _: &Dims, out: &mut [f32]| {
            let shift = name.len() as f32 + f32::from(name.as_bytes()[0]);
            out.iter_mut().enumerate().for_each(|(i, v)| *v = libm::sinf(1.7 * i as f32 + shift));
            Ok(())
        };
        let g = graph();
        let compile = |g: &Graph| Reference.compile(g, &read).unwrap().into();
        Networks { predict: compile(&g), gradient: Some(compile(&vjp(&g, 0, 0).unwrap())) }
    }

    #[test]
    fn the_gradient_is_that_of_the_log_probability() {
        let net = networks();
        let mut classifier = NetworkClassifier::new(net.clone(), 2, &[2, 0]).unwrap();
        let call = Call { level: Level::variance_preserving(400.0, 0.5), first_sample: 5, cancel: &CANCEL };
        let x = [0.3f32, -0.8, 1.1, 0.2, -0.4, 0.6, 0.0, 0.9];
        let mut got = [0.0; 8];
        classifier.gradient(&call, &x, &mut got).unwrap();
        // Sample 5 is guided to entry 1, class 0; sample 6 to class 2.
        let log_p = |x: &[f32], class: usize| {
            let mut workspace = vec![0.0; net.predict.workspace_len(1).unwrap()];
            let mut l = [0.0; 3];
            net.predict.run(1, &[x, &[400.0]], &mut [&mut l], &mut workspace, &CANCEL).unwrap();
            let sum: f64 = l.iter().map(|v| libm::exp(f64::from(*v))).sum();
            f64::from(l[class]) - libm::log(sum)
        };
        for (s, class) in [(0, 0), (1, 2)] {
            for i in 0..4 {
                let mut moved: Vec<f32> = x[s * 4..][..4].to_vec();
                moved[i] += 0.01;
                let up = log_p(&moved, class);
                moved[i] -= 0.02;
                let want = (up - log_p(&moved, class)) / 0.02;
                let got = f64::from(got[s * 4 + i]);
                assert!((got - want).abs() < 1e-3, "sample {s}, {i}: {got} and {want}");
            }
        }
        assert!(classifier.gradient(&call, &[0.0; 12], &mut [0.0; 12]).is_err());
        assert!(classifier.gradient(&call, &x, &mut [0.0; 4]).is_err());
    }

    #[test]
    fn misfits_are_refused() {
        let net = networks();
        let message = |n: Networks, batch, classes: &[usize]| {
            NetworkClassifier::new(n, batch, classes).err().unwrap().message().to_owned()
        };
        use alloc::borrow::ToOwned;
        assert!(message(net.clone(), 1, &[3]).contains("class 3"));
        assert!(message(net.clone(), 1, &[]).contains("no classes"));
        assert!(message(Networks { gradient: None, ..net.clone() }, 1, &[0]).contains("gradient"));
        let other = Networks { gradient: Some(net.predict.clone()), ..net.clone() };
        assert!(message(other, 1, &[0]).contains("not of this"));
        assert!(NetworkClassifier::new(net, 0, &[0]).is_err());
    }
}
