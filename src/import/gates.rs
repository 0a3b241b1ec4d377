//! Elementwise functions and arithmetic, and the functions that files write out: SiLU, Mish and both forms of GELU.

use alloc::vec::Vec;

use super::tensor::Tensor;
use super::translate::{Sym, Translator};
use super::value::Value;
use crate::error::{Result, ensure, err};
use crate::graph::{Activation, Binary, Op, ValueId};

/// `factor * f(x)`, or with `one` `factor * (1 + f(x))`: of GELU f is the error function of `x / sqrt(2)`, of its
/// approximation the hyperbolic tangent of a cubic.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    pub x: Value,
    kind: Activation,
    factor: f64,
    one: bool,
}

/// `linear * x + cube * x^3`.
#[derive(Clone, Debug)]
pub(super) struct Cubic {
    pub x: Value,
    linear: f64,
    cube: f64,
}

/// Equal as far as f32 tells.
pub(super) fn near(a: f64, b: f64) -> bool {
    libm::fabs(a - b) <= 1e-6 * libm::fabs(b).max(1e-3)
}

impl Translator<'_> {
    pub fn unary(&mut self, x: &Sym, f: Activation) -> Result<Sym> {
        let x = self.value(x)?;
        let at = self.push(Op::Activation(f), &[x.at])?;
        Ok(Sym::Value(x.like(at)))
    }

    pub fn affine(&mut self, x: &Value, scale: f64, shift: f64) -> Result<Value> {
        let (mut base, mut scale, mut shift) = (x.at, scale, shift);
        if let Some((inner, s, t)) = self.affine_of(base) {
            (base, shift, scale) = (inner, t * scale + shift, s * scale);
        }
        let (s, t) = (scale as f32, shift as f32);
        ensure!(s.is_finite() && t.is_finite(), Unsupported, "a factor of {scale} or an offset of {shift}");
        if (s, t) == (1.0, 0.0) {
            return Ok(Value { at: base, ..x.clone() });
        }
        let at = self.push(Op::Affine { scale: s, shift: t }, &[base])?;
        Ok(x.like(at))
    }

    /// The argument, factor and offset of a node that is an affine map.
    pub fn affine_of(&self, at: ValueId) -> Option<(ValueId, f64, f64)> {
        let node = self.node(at)?;
        match (&node.op, node.args.as_slice()) {
            (&Op::Affine { scale, shift }, &[arg]) => Some((arg, f64::from(scale), f64::from(shift))),
            _ => None,
        }
    }

    /// By what a value is a multiple of another.
    fn multiple(&self, v: &Value, of: &Value) -> Option<f64> {
        let alike = v.order == of.order && v.k == of.k && v.shape == of.shape;
        match self.affine_of(v.at) {
            _ if !alike => None,
            _ if v.at == of.at => Some(1.0),
            Some((base, s, t)) => match self.affine_of(of.at) {
                _ if t != 0.0 => None,
                _ if base == of.at => Some(s),
                Some((other, u, w)) if other == base && w == 0.0 => Some(s / u),
                _ => None,
            },
            None => match self.affine_of(of.at) {
                Some((base, s, t)) if base == v.at && t == 0.0 && s != 0.0 => Some(1.0 / s),
                _ => None,
            },
        }
    }

    pub fn erf(&mut self, x: &Sym) -> Result<Sym> {
        let v = self.value(x)?;
        let half = core::f64::consts::FRAC_1_SQRT_2;
        match self.affine_of(v.at) {
            Some((base, s, t)) if t == 0.0 && near(s, half) => {
                let x = Value { at: base, ..v };
                Ok(Sym::Gate(Gate { x, kind: Activation::Gelu, factor: 1.0, one: false }))
            }
            // A multiple of x is the argument itself.
            Some((_, s, t)) if t == 0.0 && s != 0.0 => {
                let x = self.affine(&v, core::f64::consts::SQRT_2, 0.0)?;
                Ok(Sym::Gate(Gate { x, kind: Activation::Gelu, factor: 1.0, one: false }))
            }
            _ => Err(err!(Unsupported, "an error function, expected one of x / sqrt(2) in GELU")),
        }
    }

    pub fn tanh(&mut self, x: &Sym) -> Result<Sym> {
        if let Sym::Cubic(c) = x {
            let root = libm::sqrt(2.0 / core::f64::consts::PI);
            let fits = near(c.linear, root) && near(c.cube, root * 0.044715);
            ensure!(fits, Unsupported, "the tangent of {} x + {} x^3, expected that of GELU", c.linear, c.cube);
            return Ok(Sym::Gate(Gate { x: c.x.clone(), kind: Activation::GeluTanh, factor: 1.0, one: false }));
        }
        self.unary(x, Activation::Tanh)
    }

    pub fn power(&mut self, x: &Sym, by: &Tensor) -> Result<Sym> {
        let by = by.single().ok_or_else(|| err!(Unsupported, "powers that are not the same everywhere"))?;
        match x {
            Sym::Moment(m) if near(by, 0.5) || near(by, -0.5) => Ok(Sym::Moment(m.root(by < 0.0)?)),
            _ if by == 1.0 => Ok(x.clone()),
            Sym::Centred(v, axes) if by == 2.0 => Ok(Sym::Moment(super::norm::Moment::deviation(v, axes))),
            _ if by == 2.0 => Ok(Sym::Squared(self.value(x)?)),
            _ if by == 3.0 => Ok(Sym::Cubic(Cubic { x: self.value(x)?, linear: 0.0, cube: 1.0 })),
            _ => Err(err!(Unsupported, "a power of {by}, expected 2 or a norm")),
        }
    }

    /// `a op b` of anything.
    pub fn arithmetic(&mut self, op: &str, a: &Sym, b: &Sym) -> Result<Sym> {
        let number = |s: &Sym| if let Sym::Const(t) = s { t.uniform().filter(|_| t.len() == 1) } else { None };
        if let Some(made) = self.norm_step(op, a, b)? {
            return Ok(made);
        }
        if let Some(made) = self.attention_step(op, a, b)? {
            return Ok(made);
        }
        if let Some(made) = self.angle_step(op, a, b)? {
            return Ok(made);
        }
        let (first, second) = match op {
            // A constant stands second where the order does not matter.
            "Add" | "Mul" if matches!(a, Sym::Const(_)) => (b, a),
            _ => (a, b),
        };
        match (op, first, second) {
            ("Mul", Sym::Gate(g), other) | ("Mul", other, Sym::Gate(g)) => return self.gated(g, other),
            ("Div", Sym::Gate(g), other) if number(other).is_some_and(|n| n != 0.0) => {
                return Ok(Sym::Gate(Gate { factor: g.factor / number(other).unwrap_or(1.0), ..g.clone() }));
            }
            ("Add", Sym::Gate(g), other) if number(other) == Some(1.0) && !g.one && g.factor == 1.0 => {
                return Ok(Sym::Gate(Gate { one: true, ..g.clone() }));
            }
            ("Mul", Sym::Squared(v), Sym::Value(w)) | ("Mul", Sym::Value(w), Sym::Squared(v)) if v.at == w.at => {
                return Ok(Sym::Cubic(Cubic { x: v.clone(), linear: 0.0, cube: 1.0 }));
            }
            // x (c x^2 + 1) is written so, too.
            ("Mul", Sym::Cubic(c), other) => {
                if let Some(n) = number(other) {
                    return Ok(Sym::Cubic(Cubic { linear: c.linear * n, cube: c.cube * n, ..c.clone() }));
                }
            }
            ("Add", Sym::Cubic(c), Sym::Value(v)) | ("Add", Sym::Value(v), Sym::Cubic(c)) => {
                if let Some(n) = self.multiple(v, &c.x) {
                    return Ok(Sym::Cubic(Cubic { linear: c.linear + n, ..c.clone() }));
                }
            }
            ("Mul", Sym::Value(v), Sym::Value(w)) if v == w => return Ok(Sym::Squared(v.clone())),
            ("Mul", Sym::Value(v), Sym::Value(w)) => {
                if let Some(made) = self.gate_of(v, w)? {
                    return Ok(made);
                }
                if let Some(made) = self.gate_of(w, v)? {
                    return Ok(made);
                }
            }
            _ => {}
        }
        match (first, second) {
            (Sym::Const(t), x) => {
                let x = self.value(x)?;
                match op {
                    "Sub" => {
                        let minus = self.affine(&x, -1.0, 0.0)?;
                        self.with_constant("Add", &minus, t)
                    }
                    // Of Add and Mul a constant stands second.
                    _ => self.constant_by(t, &x),
                }
            }
            (x, Sym::Const(t)) => {
                let x = self.value(x)?;
                self.with_constant(op, &x, t)
            }
            (x, y) => {
                let (x, y) = (self.value(x)?, self.value(y)?);
                self.between(op, &x, &y).map(Sym::Value)
            }
        }
    }

    fn gated(&mut self, g: &Gate, other: &Sym) -> Result<Sym> {
        if let Sym::Const(t) = other {
            let n = t.single().ok_or_else(|| err!(Unsupported, "a part of GELU times more than a number"))?;
            return Ok(Sym::Gate(Gate { factor: g.factor * n, ..g.clone() }));
        }
        let v = self.value(other)?;
        let by = self.multiple(&v, &g.x).filter(|_| g.one);
        let by = by.ok_or_else(|| err!(Unsupported, "a part of GELU times something else than its argument"))?;
        let at = self.push(Op::Activation(g.kind), &[g.x.at])?;
        let made = g.x.like(at);
        self.affine(&made, 2.0 * g.factor * by, 0.0).map(Sym::Value)
    }

    /// `x f(x)` where that is a function of its own.
    fn gate_of(&mut self, x: &Value, gate: &Value) -> Result<Option<Sym>> {
        let alike = x.order == gate.order && x.k == gate.k && x.shape == gate.shape;
        let of = |this: &Self, at: ValueId, f: Activation| {
            let node = this.node(at)?;
            if node.op == Op::Activation(f) { node.args.first().copied() } else { None }
        };
        let silu = of(self, gate.at, Activation::Sigmoid) == Some(x.at);
        let tangent = of(self, gate.at, Activation::Tanh);
        let mish = tangent.and_then(|t| of(self, t, Activation::Softplus)) == Some(x.at);
        let f = match (silu, mish) {
            _ if !alike => return Ok(None),
            (true, _) => Activation::Silu,
            (_, true) => Activation::Mish,
            _ => return Ok(None),
        };
        let at = self.push(Op::Activation(f), &[x.at])?;
        Ok(Some(Sym::Value(x.like(at))))
    }

    /// A value and a constant.
    fn with_constant(&mut self, op: &str, x: &Value, t: &Tensor) -> Result<Sym> {
        self.budget.pay(&t.shape)?;
        let shape = super::tensor::broadcast(&x.shape, &t.shape)?;
        if super::tensor::count(&shape)? == x.size() {
            let lifted = x.lifted(shape.len());
            if let Some(n) = t.uniform() {
                return Ok(Sym::Value(match op {
                    "Add" => self.affine(&lifted, 1.0, n)?,
                    "Sub" => self.affine(&lifted, 1.0, -n)?,
                    "Mul" => self.affine(&lifted, n, 0.0)?,
                    _ => self.affine(&lifted, 1.0 / n, 0.0)?,
                }));
            }
            let t = t.with_shape(&[alloc::vec![1; shape.len() - t.shape.len()], t.shape.clone()].concat());
            if let Some(made) = self.absorbed(op, &lifted, &t)? {
                return Ok(Sym::Value(made));
            }
            let t = match op {
                "Sub" => self.mapped(&t, |v| -v)?,
                "Div" => self.mapped(&t, |v| 1.0 / v)?,
                _ => t,
            };
            let other = self.constant_beside(&t, &lifted)?;
            let f = if matches!(op, "Add" | "Sub") { Binary::Add } else { Binary::Mul };
            let at = self.push(Op::Binary(f), &[lifted.at, other])?;
            return Ok(Sym::Value(lifted.like(at)));
        }
        // The constant has the larger shape: it becomes a value of its own.
        self.budget.pay(&shape)?;
        let lifted = x.lifted(shape.len());
        let full = t.expanded(&shape);
        let mut like = Value::new(lifted.at, &shape, 1);
        // The layout of the value, and before it what it has not.
        let missing: Vec<usize> = like.order.iter().copied().filter(|a| !lifted.order.contains(a)).collect();
        let channels = lifted.channels().to_vec();
        like.k = channels.len().max(1);
        like.order = match channels.is_empty() {
            false => [channels.as_slice(), &missing, lifted.positions()].concat(),
            true => [missing.as_slice(), lifted.positions()].concat(),
        };
        let at = self.constant_beside(&full, &like)?;
        like.at = at;
        like.whole = false;
        match op {
            "Sub" => {
                let minus = self.affine(&lifted, -1.0, 0.0)?;
                self.between("Add", &minus, &like).map(Sym::Value)
            }
            "Div" => Err(err!(Unsupported, "a value of {:?} by a constant of {:?}", x.shape, t.shape)),
            _ => self.between(op, &lifted, &like).map(Sym::Value),
        }
    }

    /// `t / x`.
    fn constant_by(&mut self, t: &Tensor, x: &Value) -> Result<Sym> {
        let shape = super::tensor::broadcast(&x.shape, &t.shape)?;
        ensure!(super::tensor::count(&shape)? == x.size(), Unsupported, "{:?} by {:?}", t.shape, x.shape);
        let lifted = x.lifted(shape.len());
        self.budget.pay(&shape)?;
        let at = self.constant_beside(&t.expanded(&shape), &lifted)?;
        let at = self.push(Op::Binary(Binary::Div), &[at, lifted.at])?;
        Ok(Sym::Value(lifted.like(at)))
    }

    /// Two values, the first in the layout of the result where both have all of its axes.
    pub fn between(&mut self, op: &str, x: &Value, y: &Value) -> Result<Value> {
        let shape = super::tensor::broadcast(&x.shape, &y.shape)?;
        let total = super::tensor::count(&shape)?;
        let (x, y) = (x.lifted(shape.len()), y.lifted(shape.len()));
        let (mut big, mut small, mut turned) = (x, y, false);
        if big.size() < small.size() {
            (big, small, turned) = (small, big, true);
        }
        if op == "Sub" {
            match turned {
                false => small = self.affine(&small, -1.0, 0.0)?,
                true => big = self.affine(&big, -1.0, 0.0)?,
            }
        }
        ensure!(op != "Div" || !turned, Unsupported, "a quotient of a smaller value by a larger one");
        let f = match op {
            "Add" | "Sub" => Binary::Add,
            "Mul" => Binary::Mul,
            _ => Binary::Div,
        };
        if big.size() != total {
            // Both lack axes: the larger is first repeated along those of the other.
            self.budget.pay(&shape)?;
            let zeros = Tensor::floats(&[], alloc::vec![0.0]).expanded(&shape);
            let Sym::Value(full) = self.with_constant("Add", &big, &zeros)? else {
                return Err(err!(Unsupported, "values of {:?} and {:?}", big.shape, small.shape));
            };
            big = full;
        }
        let row = small.real(&small.order).iter().all(|a| big.channels().contains(a));
        if small.size() == big.size() {
            small = self.conform(&small, &big)?;
        } else if small.size() == 1 {
            small.at = self.redimension(small.at, &[1])?;
        } else if row && small.order.len() == big.channels().len() {
            small = self.permute(&small, big.channels(), big.k)?;
        } else if small.order.len() == big.positions().len() && small.order.iter().all(|a| big.positions().contains(a))
        {
            // One value at each position, the same for all channels.
            small = self.permute(&small, big.positions(), 0)?;
            let n = big.product(big.channels());
            let ones = Tensor::floats(&[n, 1], alloc::vec![1.0; self.budget.pay(&[n])?]);
            let weight = self.param(&ones, &[n, 1])?;
            small.at = self.push(Op::Linear(crate::graph::Kernel { weight, bias: None }), &[small.at])?;
            small.at = self.redimension(small.at, &big.dims())?;
        } else {
            // Else the channels are those of the smaller one, if they can be.
            let axes = small.order.clone();
            big = self.arrange(&big, &axes)?;
            small = self.permute(&small, &axes, axes.len())?;
        }
        let at = self.push(Op::Binary(f), &[big.at, small.at])?;
        Ok(big.like(at))
    }

    /// A constant with another function of its elements.
    pub fn mapped(&mut self, t: &Tensor, f: impl Fn(f32) -> f32) -> Result<Tensor> {
        self.budget.pay(&t.shape)?;
        Ok(Tensor::floats(&t.shape, t.to_floats().iter().map(|&v| f(v)).collect()).named(t.name.clone()))
    }

    /// A constant of the rank of a value as a value beside it: `[C]` where it is the same at all positions.
    fn constant_beside(&mut self, t: &Tensor, like: &Value) -> Result<ValueId> {
        let row = like.positions().iter().all(|&a| t.shape[a] == 1);
        let (t, dims) = match row {
            true => (self.row(t, like)?, like.dims()[..1].to_vec()),
            false => {
                self.budget.pay(&like.shape)?;
                (t.expanded(&like.shape).transposed(&with_rest(&like.order, t.shape.len())), like.dims())
            }
        };
        let param = self.param(&t, &dims)?;
        self.push(Op::Parameter { param, dims: crate::tensor::Dims::new(&dims)? }, &[])
    }

    /// A constant of the rank of a value, the same at all positions, as one entry for each channel.
    pub fn row(&mut self, t: &Tensor, like: &Value) -> Result<Tensor> {
        let shape: Vec<usize> =
            (0..t.shape.len()).map(|a| if like.channels().contains(&a) { like.shape[a] } else { 1 }).collect();
        self.budget.pay(&shape)?;
        let full = t.expanded(&shape).transposed(&with_rest(like.channels(), shape.len()));
        Ok(full.with_shape(&[super::tensor::count(&shape)?]))
    }
}

/// These axes last, in this order, the others, which have one entry, before them.
fn with_rest(axes: &[usize], rank: usize) -> Vec<usize> {
    (0..rank).filter(|a| !axes.contains(a)).chain(axes.iter().copied()).collect()
}
