//! The oracle: every operation as plain loops in `f64`, in the layout of the documentation (NCHW), with no fusion and
//! no plan.
//!
//! It is slow and it allocates. Tests compare all other backends, and the fusion pass, with it.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use half::bf16;

use super::{Backend, Network, ParamSource, check_run};
use crate::cancel::Cancel;
use crate::error::{Result, ensure};
use crate::graph::{
    Binary, FusedConv, FusedConvAdjoint, FusedNormGrad, Graph, Input, Kernel, LayerPrecision, Node, Op, ValueId, Window,
};
use crate::tensor::Dims;

mod grad;
mod layout;
mod ops;
#[cfg(feature = "training")]
mod param_grad;

/// The backend of plain `f64` loops.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reference;

impl Backend for Reference {
    fn name(&self) -> &'static str {
        "reference"
    }

    fn compile(&self, graph: &Graph, params: &dyn ParamSource) -> Result<Box<dyn Network>> {
        let mut values = Vec::with_capacity(graph.params().len());
        let mut buffer = Vec::new();
        let mut read = alloc::vec![false; graph.params().len()];
        graph.nodes().iter().for_each(|n| n.op.for_each_param(|id| read[id.index()] = true));
        for (p, read) in graph.params().iter().zip(read) {
            buffer.clear();
            if !read {
                values.push(Vec::new());
                continue;
            }
            buffer.resize(p.dims.elements(), 0f32);
            params.read(&p.name, &p.dims, &mut buffer)?;
            values.push(buffer.iter().map(|&v| f64::from(v)).collect());
        }
        Ok(Box::new(ReferenceNetwork {
            inputs: graph.inputs().iter().map(|p| graph.dims(p.value)).collect(),
            signature: graph.signature(),
            outputs: graph.outputs().iter().map(|p| graph.dims(p.value)).collect(),
            graph: graph.clone(),
            params: values,
        }))
    }
}

#[derive(Debug)]
struct ReferenceNetwork {
    graph: Graph,
    params: Vec<Vec<f64>>,
    inputs: Vec<Dims>,
    signature: Vec<Input>,
    outputs: Vec<Dims>,
}

/// One sample's value: its dimensions and its elements.
#[derive(Clone)]
struct Tensor {
    dims: Dims,
    data: Vec<f64>,
}

impl Network for ReferenceNetwork {
    fn inputs(&self) -> &[Dims] {
        &self.inputs
    }

    fn signature(&self) -> &[Input] {
        &self.signature
    }

    fn outputs(&self) -> &[Dims] {
        &self.outputs
    }

    fn weight_bytes(&self) -> usize {
        self.params.iter().map(|p| p.len() * 8).sum()
    }

    fn workspace_len(&self, batch: usize) -> Result<usize> {
        ensure!(batch > 0, InvalidArgument, "the batch is 0, expected at least 1");
        Ok(0)
    }

    fn describe(&self) -> String {
        "reference f64".into()
    }

    fn run(
        &self,
        batch: usize,
        inputs: &[&[f32]],
        outputs: &mut [&mut [f32]],
        workspace: &mut [f32],
        cancel: &Cancel,
    ) -> Result<()> {
        check_run(self, batch, inputs, outputs, workspace)?;
        for sample in 0..batch {
            let one = |(x, d): (&&[f32], &Dims)| {
                let n = d.elements();
                x[sample * n..][..n].iter().map(|&v| f64::from(v)).collect()
            };
            let x: Vec<Vec<f64>> = inputs.iter().zip(&self.inputs).map(one).collect();
            for (y, out) in self.evaluate(&x, cancel)?.iter().zip(&mut *outputs) {
                let out = &mut out[sample * y.len()..][..y.len()];
                out.iter_mut().zip(y).for_each(|(to, &from)| *to = from as f32);
            }
        }
        Ok(())
    }
}

/// The nearest bf16.
fn half(v: f64) -> f64 {
    bf16::from_f32(v as f32).to_f64()
}

impl ReferenceNetwork {
    /// The outputs for one sample's inputs, all in `f64`.
    fn evaluate(&self, inputs: &[Vec<f64>], cancel: &Cancel) -> Result<Vec<Vec<f64>>> {
        let mut values: Vec<Option<Tensor>> = alloc::vec![None; self.graph.nodes().len()];
        let mut uses = self.graph.use_counts();
        for (id, node) in self.graph.ids().zip(self.graph.nodes()) {
            cancel.check()?;
            let value = match node.op {
                Op::Input(slot) => Tensor { dims: node.ty.dims, data: inputs[slot.index()].clone() },
                _ => {
                    let args: Vec<&Tensor> = node.args.iter().filter_map(|a| values[a.index()].as_ref()).collect();
                    self.node(node, &args)?
                }
            };
            debug_assert_eq!(value.data.len(), value.dims.elements());
            values[id.index()] = Some(value);
            for a in &node.args {
                uses[a.index()] -= 1;
                if uses[a.index()] == 0 {
                    values[a.index()] = None;
                }
            }
        }
        let output = |id: ValueId| values[id.index()].as_ref().map(|t| t.data.clone()).unwrap_or_default();
        Ok(self.graph.outputs().iter().map(|port| output(port.value)).collect())
    }

    fn node(&self, node: &Node, args: &[&Tensor]) -> Result<Tensor> {
        let param = |id: crate::graph::ParamId| self.params[id.index()].as_slice();
        let dims = node.ty.dims;
        let data = match &node.op {
            // Handled by the caller, which has the inputs.
            Op::Input(_) => Vec::new(),
            Op::Conv2d { window, kernel } => self.layer(kernel, args[0], window, dims),
            Op::Linear(k) => self.layer(k, args[0], &Window::POINT, dims),
            Op::GroupNorm(n) => {
                let ab = ops::group_norm_affine(args[0], n, param(n.weight), param(n.bias));
                ops::apply_affine(args[0], &ab)
            }
            Op::Activation(f) => ops::activate(args[0], *f),
            Op::Binary(f) => ops::binary(args[0], args[1], *f),
            &Op::Affine { scale, shift } => {
                args[0].data.iter().map(|x| x * f64::from(scale) + f64::from(shift)).collect()
            }
            Op::Concat => args.iter().flat_map(|a| a.data.iter().copied()).collect(),
            &Op::SliceChannels { start, len } => {
                let n = dims.positions();
                args[0].data[start * n..(start + len) * n].into()
            }
            &Op::UpsampleNearest { factor } => ops::upsample(args[0], factor),
            &Op::AveragePool { factor } => ops::average_pool(args[0], factor, dims),
            Op::Fir { taps, up, down, pad } => ops::fir(args[0], taps, *up, *down, *pad, dims),
            &Op::Attention { heads } => ops::attention(args[0], args[1], args[2], heads, |v| v),
            &Op::AttentionBf16 { heads } => ops::attention(args[0], args[1], args[2], heads, half),
            &Op::SinusoidalEmbedding { dim, flip_sin_to_cos, freq_shift, max_period } => {
                ops::sinusoidal(args[0].data[0], dim, flip_sin_to_cos, f64::from(freq_shift), f64::from(max_period))
            }
            &Op::FourierEmbedding { weight, log, flip_sin_to_cos } => {
                ops::fourier(args[0].data[0], param(weight), log, flip_sin_to_cos)
            }
            Op::Embedding { table } => ops::embedding(args[0].data[0], param(*table), dims)?,
            Op::Reshape { .. } => args[0].data.clone(),
            &Op::ElementBias { bias } => args[0].data.iter().zip(param(bias)).map(|(x, b)| x + b).collect(),
            &Op::RadialBasis { centres, widths } => ops::radial_basis(args[0], param(centres), param(widths)),
            &Op::NearestRow { table } => ops::nearest_row(args[0], param(table)),
            Op::Softmax => ops::softmax(args[0]),
            &Op::TemporalBasis { steps, functions, width } => {
                ops::temporal_basis(args[0].data[0], steps, functions, width)
            }
            Op::MatVec => ops::mat_vec(args[0], args[1]),
            Op::Outer => ops::outer(args[0], args[1]),
            Op::VecMat => ops::vec_mat(args[0], args[1]),
            Op::SoftmaxGrad => grad::softmax(args[0], args[1]),
            &Op::RadialBasisGrad { centres, widths } => {
                grad::radial_basis(args[0], args[1], param(centres), param(widths))
            }
            Op::ConvAdjoint { window, weight, .. } => grad::conv2d(args[0], param(*weight), window, dims),
            &Op::ActivationGrad(f) => grad::activation(args[0], args[1], f),
            Op::GroupNormGrad(n) => grad::group_norm(args[0], args[1], n, param(n.weight)),
            &Op::AttentionGrad { heads, query_only } => {
                let [dq, dk, dv] = grad::attention([args[0], args[1], args[2]], args[3], heads);
                if query_only { dq } else { [dq, dk, dv].concat() }
            }
            &Op::PadChannels { before, .. } => {
                let mut y = alloc::vec![0.0; dims.elements()];
                y[before * dims.positions()..][..args[0].data.len()].copy_from_slice(&args[0].data);
                y
            }
            Op::SumPositions => args[0].data.chunks_exact(args[0].dims.positions()).map(|c| c.iter().sum()).collect(),
            &Op::GroupNormAffine { ref norm, sources, modulated } => {
                let x = ops::concat(&args[..sources]);
                let mut ab = ops::group_norm_affine(&x, norm, param(norm.weight), param(norm.bias));
                if modulated {
                    let (m, s) = (&args[sources].data, &args[sources + 1].data);
                    let (a, b) = ab.split_at_mut(m.len());
                    for c in 0..m.len() {
                        a[c] *= m[c];
                        b[c] = b[c] * m[c] + s[c];
                    }
                }
                ab
            }
            Op::ApplyAffine { activation } => {
                let y = Tensor { dims, data: ops::apply_affine(args[0], &args[1].data) };
                activation.map_or(y.data.clone(), |f| ops::activate(&y, f))
            }
            Op::Parameter { param: id, .. } => param(*id).into(),
            &Op::PositionEmbedding { dims, scale } => layout::position_embedding(dims, scale),
            &Op::OneHot { classes } => layout::one_hot(args[0].data[0], classes)?,
            Op::ChannelNorm(n) => layout::channel_norm(args[0], n, &param),
            Op::ChannelNormGrad(n) => layout::channel_norm_grad(args[0], args[1], n, &param),
            &Op::DepthToSpace { factor, blocks_first } => layout::depth_to_space(args[0], factor, blocks_first, true),
            &Op::SpaceToDepth { factor, blocks_first } => layout::depth_to_space(args[0], factor, blocks_first, false),
            Op::ReflectPad(p) => layout::reflect_pad(args[0], p, dims, false),
            Op::ReflectPadAdjoint(p) => layout::reflect_pad(args[0], p, dims, true),
            &Op::ShuffleChannels { rows, columns } => layout::shuffle_channels(args[0], rows, columns),
            Op::ConcatPositions => {
                let rows = |c: usize| args.iter().flat_map(move |a| layout::channel(a, c).iter().copied());
                (0..dims.channels()).flat_map(rows).collect()
            }
            &Op::SlicePositions { start, len } => {
                let row = |c: usize| layout::channel(args[0], c)[start..start + len].iter().copied();
                (0..dims.channels()).flat_map(row).collect()
            }
            &Op::PadPositions { before, .. } => {
                let mut y = alloc::vec![0.0; dims.elements()];
                let n = args[0].dims.positions();
                for (c, row) in y.chunks_exact_mut(dims.positions()).enumerate() {
                    row[before..before + n].copy_from_slice(layout::channel(args[0], c));
                }
                y
            }
            Op::MaxPool(window) => layout::max_pool(args[0], window, dims).into_iter().map(|(_, v)| v).collect(),
            Op::MaxPoolGrad(window) => {
                let mut dx = alloc::vec![0.0; dims.elements()];
                for ((at, _), dy) in layout::max_pool(args[0], window, args[1].dims).into_iter().zip(&args[1].data) {
                    dx[at] += dy;
                }
                dx
            }
            &Op::LinearAttention { heads } => layout::linear_attention([args[0], args[1], args[2]], heads),
            &Op::LinearAttentionGrad { heads } => {
                layout::linear_attention_grad([args[0], args[1], args[2]], args[3], heads).concat()
            }
            Op::FusedConv(c) => self.fused(c, args, dims)?,
            Op::FusedNormGrad(n) => self.fused_norm_grad(n, args)?,
            Op::FusedConvAdjoint(c) => self.fused_conv_adjoint(c, args)?,
            #[cfg(feature = "training")]
            Op::ParamGrad(of) => param_grad::gradient(of, args, dims, &param),
        };
        Ok(Tensor { dims, data })
    }

    /// The gradient of a group norm and what follows it, operation by operation.
    fn fused_norm_grad(&self, n: &FusedNormGrad, args: &[&Tensor]) -> Result<Vec<f64>> {
        let param = |id: crate::graph::ParamId| self.params[id.index()].as_slice();
        let x = ops::concat(&args[..n.sources]);
        let mut next = n.sources;
        let dims = x.dims;
        let mut y = Tensor { dims, data: Vec::new() };
        y.data = ops::apply_affine(&x, &ops::group_norm_affine(&x, &n.norm, param(n.norm.weight), param(n.norm.bias)));
        let mut factor = None;
        if n.modulated {
            y.data = ops::binary(&y, args[next], Binary::Mul);
            y.data = ops::binary(&y, args[next + 1], Binary::Add);
            factor = Some(args[next]);
            next += 2;
        }
        let mut g = args[next].clone();
        if let Some(f) = n.activation {
            g.data = grad::activation(&y, &g, f);
        }
        if let Some(m) = factor {
            g.data = ops::binary(&g, m, Binary::Mul);
        }
        let mut dx = Tensor { dims, data: grad::group_norm(&x, &g, &n.norm, param(n.norm.weight)) };
        if n.residual {
            dx.data = ops::binary(&dx, args[next + 1], Binary::Add);
        }
        Ok(dx.data)
    }

    /// The adjoints of the stacked kernels one after the other, and the residual.
    fn fused_conv_adjoint(&self, c: &FusedConvAdjoint, args: &[&Tensor]) -> Result<Vec<f64>> {
        let dy = args[0];
        let positions = dy.dims.positions();
        let mut sum = args.get(1).map_or_else(|| alloc::vec![0.0; c.dims.elements()], |r| r.data.clone());
        let mut start = 0;
        for &weight in &c.weights {
            let mut dims = dy.dims.as_slice().to_vec();
            dims[0] = self.graph.param(weight).dims.channels();
            let part = dy.data[start * positions..(start + dims[0]) * positions].to_vec();
            start += dims[0];
            let part = Tensor { dims: Dims::new(&dims)?, data: part };
            let dx = grad::conv2d(&part, &self.params[weight.index()], &c.window, c.dims);
            sum.iter_mut().zip(dx).for_each(|(s, d)| *s += d);
        }
        Ok(sum)
    }

    /// A convolution or linear map, in integers where its weight says so.
    fn layer(&self, k: &Kernel, x: &Tensor, window: &Window, dims: Dims) -> Vec<f64> {
        let weight = self.params[k.weight.index()].as_slice();
        let bias = k.bias.map(|b| self.params[b.index()].as_slice());
        let input = match self.graph.param(k.weight).precision {
            LayerPrecision::F32 => return ops::conv2d(x, weight, bias, window, dims),
            LayerPrecision::Bf16 => {
                let x = Tensor { dims: x.dims, data: x.data.iter().copied().map(half).collect() };
                let weight: Vec<f64> = weight.iter().copied().map(half).collect();
                return ops::conv2d(&x, &weight, bias, window, dims);
            }
            LayerPrecision::Int8(input) => input,
        };
        let x = Tensor { dims: x.dims, data: x.data.iter().map(|&v| input.offset(v)).collect() };
        let mut weight = weight.to_vec();
        let mut factors = Vec::new();
        for row in weight.chunks_mut((self.params[k.weight.index()].len() / dims.channels()).max(1)) {
            // As kept in f32: the integers depend on it.
            let factor = row.iter().fold(0f32, |m, w| m.max(w.abs() as f32)) / 127.0;
            let integer = |w: f64| libm::roundf(w as f32 / factor).clamp(-127.0, 127.0);
            row.iter_mut().for_each(|w| *w = if factor == 0.0 { 0.0 } else { integer(*w).into() });
            factors.push(f64::from(factor * input.scale()));
        }
        let mut y = ops::conv2d(&x, &weight, None, window, dims);
        for (o, plane) in y.chunks_mut(dims.positions()).enumerate() {
            plane.iter_mut().for_each(|v| *v = *v * factors[o] + bias.map_or(0.0, |b| b[o]));
        }
        y
    }

    /// A fused convolution as the sequence of primitive operations that it stands for.
    fn fused(&self, c: &FusedConv, args: &[&Tensor], dims: Dims) -> Result<Vec<f64>> {
        let mut next = c.prologue.sources;
        let mut x = ops::concat(&args[..next]);
        if c.prologue.affine {
            x.data = ops::apply_affine(&x, &args[next].data);
            next += 1;
        }
        if let Some(f) = c.prologue.activation {
            x.data = ops::activate(&x, f);
        }
        if c.prologue.upsample > 1 {
            let f = c.prologue.upsample;
            let d = x.dims.as_slice();
            x = Tensor { dims: Dims::new(&[d[0], d[1] * f, d[2] * f])?, data: ops::upsample(&x, f) };
        }
        let mut data = Vec::with_capacity(dims.elements());
        for k in &c.kernels {
            let mut part = dims.as_slice().to_vec();
            part[0] = self.graph.param(k.weight).dims.channels();
            data.extend(self.layer(k, &x, &c.window, Dims::new(&part)?));
        }
        let mut y = Tensor { dims, data };
        if c.epilogue.channel {
            y.data = ops::binary(&y, args[next], Binary::Add);
            next += 1;
        }
        if c.epilogue.residual {
            y.data = ops::binary(&y, args[next], Binary::Add);
        }
        for v in &mut y.data {
            *v *= f64::from(c.epilogue.scale);
        }
        Ok(c.epilogue.activation.map_or(y.data.clone(), |f| ops::activate(&y, f)))
    }
}

#[cfg(test)]
mod tests;
