//! Norms: those that ONNX has, group norm as both exporters write it, and norms over channels written out.

use alloc::vec::Vec;

use super::attributes::Attributes;
use super::dispatch::Arguments;
use super::fold;
use super::tensor::Tensor;
use super::translate::{Sym, Translator};
use super::value::Value;
use crate::error::{Result, ensure, err};
use crate::graph::{ChannelNorm, GroupNorm, Kernel, NormKind, Op};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Mean,
    /// The square of a value less its mean, before its mean is taken.
    Deviation,
    Variance,
    /// The mean of squares.
    Square,
    /// The root of the sum of squares.
    Length,
}

/// What a norm over some axes of a value divides by or takes off.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Moment {
    pub of: Value,
    axes: Vec<usize>,
    kind: Kind,
    eps: f64,
    /// 0.5 for its root, -0.5 for what it is divided by.
    power: f64,
}

impl Moment {
    fn new(of: &Value, axes: &[usize], kind: Kind) -> Self {
        Self { of: of.clone(), axes: axes.to_vec(), kind, eps: 0.0, power: 1.0 }
    }

    pub fn deviation(of: &Value, axes: &[usize]) -> Self {
        Self::new(of, axes, Kind::Deviation)
    }

    /// Its root, or one by it.
    pub fn root(&self, inverse: bool) -> Result<Self> {
        let fits = matches!(self.kind, Kind::Variance | Kind::Square) && self.power == 1.0;
        ensure!(fits, Unsupported, "a root, expected that of a variance or of a mean of squares");
        Ok(Self { power: if inverse { -0.5 } else { 0.5 }, ..self.clone() })
    }

    /// One by it.
    pub fn inverse(&self) -> Result<Self> {
        ensure!(self.power == 0.5, Unsupported, "one by something, expected by the root of a variance");
        Ok(Self { power: -0.5, ..self.clone() })
    }

    /// No less than a number.
    pub fn at_least(&self, low: f64) -> Result<Self> {
        ensure!(self.kind == Kind::Length, Unsupported, "a bound of a moment, expected of a length");
        Ok(Self { eps: low, ..self.clone() })
    }
}

impl<'a> Translator<'a> {
    /// A step of a norm that is written out; `None` for what is none.
    pub fn norm_step(&mut self, op: &str, a: &Sym, b: &Sym) -> Result<Option<Sym>> {
        let number = |s: &Sym| if let Sym::Const(t) = s { t.single() } else { None };
        Ok(match (op, a, b) {
            ("Sub", Sym::Value(v), Sym::Moment(m)) if m.kind == Kind::Mean && m.of == *v => {
                Some(Sym::Centred(v.clone(), m.axes.clone()))
            }
            ("Mul", Sym::Centred(v, axes), Sym::Centred(w, others)) if v == w && axes == others => {
                Some(Sym::Moment(Moment::deviation(v, axes)))
            }
            ("Add", Sym::Moment(m), other) | ("Add", other, Sym::Moment(m))
                if matches!(m.kind, Kind::Variance | Kind::Square) && m.power == 1.0 && m.eps == 0.0 =>
            {
                number(other).map(|eps| Sym::Moment(Moment { eps, ..m.clone() }))
            }
            ("Div", other, Sym::Moment(m)) if number(other) == Some(1.0) => Some(Sym::Moment(m.inverse()?)),
            ("Div", x, Sym::Moment(m)) if m.kind != Kind::Mean => self.normed(x, m, 0.5)?,
            ("Mul", x, Sym::Moment(m)) | ("Mul", Sym::Moment(m), x) if m.kind != Kind::Mean => {
                self.normed(x, m, -0.5)?
            }
            _ => None,
        })
    }

    fn normed(&mut self, x: &Sym, m: &Moment, power: f64) -> Result<Option<Sym>> {
        let (kind, of) = match (x, m.kind) {
            (Sym::Centred(v, axes), Kind::Variance) if *axes == m.axes => (NormKind::Layer, v),
            (Sym::Value(v), Kind::Square) => (NormKind::Rms, v),
            (Sym::Value(v), Kind::Length) => (NormKind::L2, v),
            _ => return Ok(None),
        };
        if *of != m.of || (m.power != power && m.kind != Kind::Length) || (m.kind == Kind::Length && power < 0.0) {
            return Ok(None);
        }
        let eps = if kind == NormKind::L2 { m.eps.max(1e-30) } else { m.eps };
        let made = self.channel_norm(of, &m.axes, kind, eps as f32, None, None)?;
        if kind != NormKind::L2 {
            return Ok(Some(Sym::Value(made)));
        }
        let n = of.product(&m.axes) as f64;
        Ok(Some(Sym::Value(self.affine(&made, 1.0 / libm::sqrt(n), 0.0)?)))
    }

    fn channel_norm(
        &mut self,
        x: &Value,
        axes: &[usize],
        kind: NormKind,
        eps: f32,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
    ) -> Result<Value> {
        let x = self.arrange(x, axes)?;
        let n = x.dims()[0];
        let mut of = |t: Option<&Tensor>| t.map(|t| self.param(t, &[n])).transpose();
        let (weight, bias) = (of(weight)?, of(bias)?);
        let at = self.push(Op::ChannelNorm(ChannelNorm { kind, groups: 1, eps, weight, bias }), &[x.at])?;
        Ok(x.like(at))
    }

    pub fn layer_norm(&mut self, op: &str, a: &mut Attributes<'a>, of: &Arguments<'_>) -> Result<Sym> {
        let x = self.value(of.need(0)?)?;
        let rank = x.shape.len();
        let first = fold::axis(a.int("axis", -1)?, rank)?;
        let eps = a.float("epsilon", 1e-5)?;
        a.ignore(&["stash_type"]);
        let axes: Vec<usize> = (first..rank).collect();
        let n = x.product(&axes);
        let mut row = |t: Option<&Tensor>| -> Result<Option<Tensor>> {
            let Some(t) = t else { return Ok(None) };
            self.budget.pay(&[n])?;
            Ok(Some(t.expanded(&x.shape[first..]).with_shape(&[n])))
        };
        for i in 1..3 {
            let t = of.constant(i)?;
            let fits = t.is_none_or(|t| {
                super::tensor::broadcast(&t.shape, &x.shape[first..]).is_ok_and(|s| s == x.shape[first..])
            });
            ensure!(fits, Shape, "its argument {i} does not fit the axes {:?}", &x.shape[first..]);
        }
        let weight = row(of.constant(1)?)?;
        let layer = op == "LayerNormalization";
        let bias = if layer { row(of.constant(2)?)? } else { None };
        let kind = if layer { NormKind::Layer } else { NormKind::Rms };
        self.channel_norm(&x, &axes, kind, eps, weight.as_ref(), bias.as_ref()).map(Sym::Value)
    }

    /// Both exporters write group norm as instance norm of its groups, under other dimensions.
    pub fn instance_norm(&mut self, a: &mut Attributes<'a>, of: &Arguments<'_>) -> Result<Sym> {
        let x = self.value(of.need(0)?)?;
        let eps = a.float("epsilon", 1e-5)?;
        let (weight, bias) = (of.need_constant(1)?, of.need_constant(2)?);
        let groups = *x.shape.get(1).ok_or_else(|| err!(Shape, "a value of {:?}", x.shape))?;
        let fits = weight.len() == groups && bias.len() == groups && x.shape.first() == Some(&1);
        ensure!(fits, Shape, "{} factors and {} offsets of {:?}", weight.len(), bias.len(), x.shape);
        let mut base = x.at;
        while let Some((Op::Reshape { .. }, [arg])) = self.node(base).map(|n| (&n.op, n.args.as_slice())) {
            base = *arg;
        }
        let channels = self.builder.dims(base)?.channels();
        let whole = weight.uniform() == Some(1.0) && bias.uniform() == Some(0.0);
        // In row-major order the groups are runs of channels.
        if whole && x.is_row_major() && channels % groups == 0 && base != x.at {
            let at = self.norm_of(base, channels, groups, eps, &ones(channels), &zeros(channels))?;
            let at = self.redimension(at, &x.dims())?;
            return Ok(Sym::Value(x.like(at)));
        }
        let x = self.arrange(&x, &[1])?;
        let at = self.norm_of(x.at, groups, groups, eps, weight, bias)?;
        Ok(Sym::Value(x.like(at)))
    }

    fn norm_of(
        &mut self,
        at: crate::graph::ValueId,
        channels: usize,
        groups: usize,
        eps: f32,
        weight: &Tensor,
        bias: &Tensor,
    ) -> Result<crate::graph::ValueId> {
        let (weight, bias) = (self.param(weight, &[channels])?, self.param(bias, &[channels])?);
        self.push(Op::GroupNorm(GroupNorm { groups, eps, weight, bias }), &[at])
    }

    pub fn group_norm(&mut self, a: &mut Attributes<'a>, of: &Arguments<'_>) -> Result<Sym> {
        let x = self.value(of.need(0)?)?;
        let (eps, groups) = (a.float("epsilon", 1e-5)?, a.size("num_groups", 0)?);
        a.ignore(&["stash_type"]);
        let x = self.arrange(&x, &[1])?;
        let channels = x.dims()[0];
        let each = channels.checked_div(groups).unwrap_or(0);
        self.budget.pay(&[channels, 2])?;
        let row = |t: &Tensor| -> Result<Tensor> {
            // Up to operator set 20 a group has one.
            let n = t.len();
            ensure!(n == channels || n == groups, Shape, "{n} factors or offsets of {channels} channels");
            let spread = |i: usize| if n == channels { i } else { i.checked_div(each).unwrap_or(0) };
            Ok(t.pick(&[channels], (0..channels).map(spread)))
        };
        let (weight, bias) = (row(of.need_constant(1)?)?, row(of.need_constant(2)?)?);
        let at = self.norm_of(x.at, channels, groups, eps, &weight, &bias)?;
        Ok(Sym::Value(x.like(at)))
    }

    pub fn batch_norm(&mut self, a: &mut Attributes<'a>, of: &Arguments<'_>) -> Result<Sym> {
        let x = self.value(of.need(0)?)?;
        let eps = f64::from(a.float("epsilon", 1e-5)?);
        a.ignore(&["momentum"]);
        ensure!(a.int("training_mode", 0)? == 0, Unsupported, "it is in training, expected a network in eval mode");
        let parts: Vec<&Tensor> = (1..5).map(|i| of.need_constant(i)).collect::<Result<_>>()?;
        let n = x.shape.get(1).copied().unwrap_or(0);
        ensure!(n > 0 && parts.iter().all(|t| t.len() == n), Shape, "a norm of {:?}, expected {n} of each", x.shape);
        self.budget.pay(&[n, 2])?;
        let factor = |i: usize| parts[0].get(i) / libm::sqrt(parts[3].get(i) + eps);
        let factors = (0..n).map(|i| factor(i) as f32).collect();
        let shifts = (0..n).map(|i| (parts[1].get(i) - parts[2].get(i) * factor(i)) as f32).collect();
        let mut along = alloc::vec![1; x.shape.len()];
        along[1] = n;
        let factors = Tensor::floats(&along, factors).named(parts[0].name.clone());
        let shifts = Tensor::floats(&along, shifts).named(parts[1].name.clone());
        let made = self.arithmetic("Mul", &Sym::Value(x), &Sym::Const(factors))?;
        self.arithmetic("Add", &made, &Sym::Const(shifts))
    }

    pub fn lp_norm(&mut self, a: &mut Attributes<'a>, of: &Arguments<'_>) -> Result<Sym> {
        let x = self.value(of.need(0)?)?;
        ensure!(a.int("p", 2)? == 2, Unsupported, "a norm of another order than 2");
        let axis = fold::axis(a.int("axis", -1)?, x.shape.len())?;
        let m = Moment::new(&x, &[axis], Kind::Length);
        let made = self.normed(&Sym::Value(x), &m, 0.5)?;
        made.ok_or_else(|| err!(Unsupported, "no norm"))
    }

    pub fn reduce(&mut self, op: &str, a: &mut Attributes<'a>, of: &Arguments<'_>) -> Result<Sym> {
        let x = of.need(0)?;
        let shape = match x {
            Sym::Moment(m) => m.of.shape.clone(),
            x => x.shape().unwrap_or_default(),
        };
        let axes = a.ints_or("axes", of.constant(1)?)?.filter(|list| !list.is_empty());
        let axes = axes.ok_or_else(|| err!(Unsupported, "it takes all axes, the batch too"))?;
        let axes = {
            let mut list = fold::axes(&axes, shape.len())?;
            list.sort_unstable();
            list
        };
        a.ignore(&["noop_with_empty_axes"]);
        let keep = a.int("keepdims", 1)? != 0;
        let made = match (op, x) {
            ("ReduceMean", Sym::Moment(m)) if m.kind == Kind::Deviation && m.axes == axes => {
                Moment { kind: Kind::Variance, ..m.clone() }
            }
            ("ReduceMean", Sym::Squared(v)) => Moment::new(v, &axes, Kind::Square),
            ("ReduceL2", Sym::Value(v)) => Moment::new(v, &axes, Kind::Length),
            ("ReduceMean", x) => Moment::new(&self.value(x)?, &axes, Kind::Mean),
            ("ReduceSum", x) => {
                let v = self.value(x)?;
                let n = v.product(&axes) as f64;
                let mean = self.settle_moment(&Moment::new(&v, &axes, Kind::Mean))?;
                let sum = self.affine(&mean, n, 0.0)?;
                return self.without(&sum, &axes, keep);
            }
            _ => return Err(err!(Unsupported, "a sum of squares, expected a part of a norm")),
        };
        if keep {
            return Ok(Sym::Moment(made));
        }
        let settled = self.settle_moment(&made)?;
        self.without(&settled, &axes, false)
    }

    fn without(&mut self, x: &Value, axes: &[usize], keep: bool) -> Result<Sym> {
        if keep {
            return Ok(Sym::Value(x.clone()));
        }
        let shape: Vec<usize> = (0..x.shape.len()).filter(|a| !axes.contains(a)).map(|a| x.shape[a]).collect();
        Ok(Sym::Value(self.reshape(x, &shape)?))
    }

    /// A mean that is no part of a norm.
    pub fn settle_moment(&mut self, m: &Moment) -> Result<Value> {
        ensure!(
            m.kind == Kind::Mean && m.power == 1.0,
            Unsupported,
            "it follows a variance, a mean of squares or a length, expected a norm over channels"
        );
        let axes = m.of.real(&m.axes);
        if axes.iter().all(|a| m.of.positions().contains(a)) {
            return self.mean_of_positions(&m.of, &axes);
        }
        let x = self.arrange(&m.of, &axes)?;
        let n = x.dims()[0];
        self.budget.pay(&[n])?;
        let weight = Tensor::floats(&[1, n], alloc::vec![1.0 / n as f32; n]);
        let weight = self.param(&weight, &[1, n])?;
        let at = self.push(Op::Linear(Kernel { weight, bias: None }), &[x.at])?;
        let mut made = x.like(at);
        axes.iter().for_each(|&a| made.shape[a] = 1);
        made.order.drain(..x.k);
        made.k = 0;
        Ok(made)
    }

    /// The mean over some of the axes that are positions.
    pub fn mean_of_positions(&mut self, x: &Value, axes: &[usize]) -> Result<Value> {
        let axes = x.real(axes);
        let mut x = x.clone();
        if axes.is_empty() {
            return Ok(x);
        }
        // What is left of the positions are channels for it.
        let rest: Vec<usize> = x.order.iter().copied().filter(|a| !axes.contains(a)).collect();
        if x.positions().len() != axes.len() || x.channels() != rest {
            x = self.arrange(&x, &rest)?;
        }
        let n = x.product(&axes);
        let at = self.push(Op::SumPositions, &[x.at])?;
        let mut made = x.like(at);
        axes.iter().for_each(|&a| made.shape[a] = 1);
        made.order.truncate(x.k);
        made.k = made.order.len();
        self.affine(&made, 1.0 / n as f64, 0.0)
    }

    /// A factor or an offset of each channel that the node before it takes in.
    pub fn absorbed(&mut self, op: &str, x: &Value, t: &Tensor) -> Result<Option<Value>> {
        let row = x.positions().iter().all(|&a| t.shape[a] == 1);
        let Some(node) = self.node(x.at).cloned().filter(|_| row) else { return Ok(None) };
        let adds = matches!(op, "Add" | "Sub");
        let is = |this: &Self, id, v: f64| this.weight(id).and_then(Tensor::uniform) == Some(v);
        let n = x.dims()[0];
        let fits = match &node.op {
            Op::GroupNorm(g) => is(self, g.bias, 0.0) && (adds || is(self, g.weight, 1.0)),
            Op::ChannelNorm(c) => c.bias.is_none() && (adds || c.weight.is_none()),
            Op::Linear(k) | Op::Conv2d { kernel: k, .. } => adds && k.bias.is_none(),
            _ => false,
        };
        if !fits || self.builder.dims(x.at)?.channels() != n {
            return Ok(None);
        }
        let t = match op {
            "Sub" => self.mapped(t, |v| -v)?,
            "Div" => self.mapped(t, |v| 1.0 / v)?,
            _ => t.clone(),
        };
        let row = self.row(&t, x)?;
        let param = self.param(&row, &[n])?;
        let op = match node.op {
            Op::GroupNorm(g) if adds => Op::GroupNorm(GroupNorm { bias: param, ..g }),
            Op::GroupNorm(g) => Op::GroupNorm(GroupNorm { weight: param, ..g }),
            Op::ChannelNorm(c) if adds => Op::ChannelNorm(ChannelNorm { bias: Some(param), ..c }),
            Op::ChannelNorm(c) => Op::ChannelNorm(ChannelNorm { weight: Some(param), ..c }),
            Op::Linear(k) => Op::Linear(Kernel { bias: Some(param), ..k }),
            Op::Conv2d { window, kernel } => Op::Conv2d { window, kernel: Kernel { bias: Some(param), ..kernel } },
            _ => return Ok(None),
        };
        let at = self.push(op, &node.args)?;
        Ok(Some(x.like(at)))
    }
}

fn ones(n: usize) -> Tensor {
    Tensor::floats(&[n], alloc::vec![1.0; n])
}

fn zeros(n: usize) -> Tensor {
    Tensor::floats(&[n], alloc::vec![0.0; n])
}
