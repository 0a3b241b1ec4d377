//! Embeddings of a number: sines and cosines of it times fixed frequencies, and rows of tables.

use alloc::vec::Vec;

use super::attributes::Attributes;
use super::dispatch::Arguments;
use super::fold;
use super::tensor::{Tensor, broadcast};
use super::translate::{Sym, Translator};
use super::value::Value;
use crate::error::{Result, ensure, err};
use crate::graph::{Kernel, Op, ValueId};

/// A number times fixed frequencies, perhaps of its logarithm, perhaps its sine or cosine.
#[derive(Clone, Debug)]
pub(super) struct Angle {
    at: ValueId,
    frequencies: Vec<f64>,
    pub shape: Vec<usize>,
    cosine: Option<bool>,
    log: bool,
}

impl Angle {
    pub fn with_shape(&self, shape: Vec<usize>) -> Self {
        Self { shape, ..self.clone() }
    }
}

impl<'a> Translator<'a> {
    pub fn angle_step(&mut self, op: &str, a: &Sym, b: &Sym) -> Result<Option<Sym>> {
        let (x, t) = match (op, a, b) {
            ("Mul" | "Div", x, Sym::Const(t)) => (x, t),
            ("Mul", Sym::Const(t), x) => (x, t),
            _ => return Ok(None),
        };
        let by = |i: usize| if op == "Mul" { t.get(i) } else { 1.0 / t.get(i) };
        let (v, log) = match x {
            Sym::Value(v) if v.size() == 1 => (v, false),
            Sym::Log(v) => (v, true),
            Sym::Angle(angle) if angle.cosine.is_none() => {
                let n = angle.frequencies.len();
                let fits = t.len() == 1 || (t.len() == n && broadcast(&angle.shape, &t.shape)? == angle.shape);
                ensure!(fits, Unsupported, "{n} frequencies times {:?}", t.shape);
                let factor = |i: usize| by(if t.len() == 1 { 0 } else { i });
                let frequencies = angle.frequencies.iter().enumerate().map(|(i, f)| f * factor(i)).collect();
                return Ok(Some(Sym::Angle(Angle { frequencies, ..angle.clone() })));
            }
            _ => return Ok(None),
        };
        if t.len() < 2 && !log {
            return Ok(None);
        }
        let shape = broadcast(&v.shape, &t.shape)?;
        let n = self.budget.pay(&shape)?;
        let at = self.redimension(v.at, &[1])?;
        let frequencies = (0..n).map(by).collect();
        Ok(Some(Sym::Angle(Angle { at, frequencies, shape, cosine: None, log })))
    }

    pub fn function(&mut self, op: &str, x: &Sym) -> Result<Sym> {
        match (op, x) {
            ("Sqrt", Sym::Moment(m)) => Ok(Sym::Moment(m.root(false)?)),
            ("Reciprocal", Sym::Moment(m)) => Ok(Sym::Moment(m.inverse()?)),
            ("Reciprocal", x) => self.arithmetic("Div", &Sym::Const(Tensor::floats(&[], alloc::vec![1.0])), x),
            ("Sin" | "Cos", Sym::Angle(angle)) if angle.cosine.is_none() => {
                Ok(Sym::Angle(Angle { cosine: Some(op == "Cos"), ..angle.clone() }))
            }
            ("Log", Sym::Value(v)) if v.size() == 1 => Ok(Sym::Log(v.clone())),
            ("Sin" | "Cos", _) => Err(err!(Unsupported, "expected the embedding of a number times fixed frequencies")),
            ("Log", _) => Err(err!(Unsupported, "expected the logarithm of a number in an embedding")),
            _ => Err(err!(Unsupported, "expected a part of a norm over channels")),
        }
    }

    /// Sines and cosines of the same angles put together, whichever comes first.
    pub fn embedding(&mut self, first: &Angle, second: &Angle, shape: &[usize]) -> Result<Option<Sym>> {
        let same = first.at == second.at && first.frequencies == second.frequencies && first.log == second.log;
        let (Some(flip), Some(other)) = (first.cosine, second.cosine) else { return Ok(None) };
        let last = shape.last().copied().unwrap_or(1);
        if !same || flip == other || last != 2 * first.frequencies.len() || last != shape.iter().product::<usize>() {
            return Ok(None);
        }
        let at = self.waves(first, flip)?;
        Ok(Some(Sym::Value(Value::new(at, shape, shape.len()))))
    }

    fn waves(&mut self, angle: &Angle, flip_sin_to_cos: bool) -> Result<ValueId> {
        let n = angle.frequencies.len();
        for shift in [0usize, 1] {
            if angle.log || n <= shift {
                continue;
            }
            let step = -libm::log(10000.0) / (n - shift) as f64;
            let is = |(i, f): (usize, &f64)| {
                let exact = libm::exp(step * i as f64);
                libm::fabs(f - exact) <= 3e-7 * exact
            };
            if angle.frequencies.iter().enumerate().all(is) {
                let freq_shift = shift as f32;
                let op = Op::SinusoidalEmbedding { dim: 2 * n, flip_sin_to_cos, freq_shift, max_period: 10000.0 };
                return self.push(op, &[angle.at]);
            }
        }
        let turns = angle.frequencies.iter().map(|f| (f / core::f64::consts::TAU) as f32).collect();
        let weight = self.param(&Tensor::floats(&[n], turns), &[n])?;
        self.push(Op::FourierEmbedding { weight, log: angle.log, flip_sin_to_cos }, &[angle.at])
    }

    /// Angles, or their sines or cosines, as values of their own.
    pub fn settle_angle(&mut self, angle: &Angle) -> Result<Value> {
        let n = angle.frequencies.len();
        let at = match angle.cosine {
            Some(cosine) => {
                let both = self.waves(angle, false)?;
                self.push(Op::SliceChannels { start: if cosine { n } else { 0 }, len: n }, &[both])?
            }
            None => {
                ensure!(!angle.log, Unsupported, "it follows a logarithm, expected the embedding of one");
                let column = angle.frequencies.iter().map(|&f| f as f32).collect();
                let weight = self.param(&Tensor::floats(&[n, 1], column), &[n, 1])?;
                self.push(Op::Linear(Kernel { weight, bias: None }), &[angle.at])?
            }
        };
        Ok(Value::new(at, &angle.shape, angle.shape.len()))
    }

    /// An embedding whose halves are put together the other way round.
    pub fn turned(&mut self, parts: &[Value]) -> Option<Op> {
        let [a, b] = parts else { return None };
        let slice = |v: &Value| match (&self.node(v.at)?.op, self.node(v.at)?.args.as_slice()) {
            (&Op::SliceChannels { start, len }, &[arg]) => Some((arg, start, len)),
            _ => None,
        };
        let ((x, start, len), (y, 0, other)) = (slice(a)?, slice(b)?) else { return None };
        match self.node(x)?.op {
            Op::SinusoidalEmbedding { dim, flip_sin_to_cos, freq_shift, max_period }
                if x == y && start == len && other == len && dim == 2 * len =>
            {
                let flip_sin_to_cos = !flip_sin_to_cos;
                Some(Op::SinusoidalEmbedding { dim, flip_sin_to_cos, freq_shift, max_period })
            }
            Op::FourierEmbedding { weight, log, flip_sin_to_cos } if x == y && start == len && other == len => {
                Some(Op::FourierEmbedding { weight, log, flip_sin_to_cos: !flip_sin_to_cos })
            }
            _ => None,
        }
    }

    pub fn gather(&mut self, a: &mut Attributes<'a>, of: &Arguments<'_>) -> Result<Sym> {
        let axis = a.int("axis", 0)?;
        match (of.need(0)?, of.need(1)?) {
            (Sym::Const(table), index) => {
                let index = self.value(index)?;
                let fits = table.shape.len() == 2 && fold::axis(axis, 2)? == 0 && index.size() == 1;
                ensure!(fits, Unsupported, "rows of {:?} by {:?}, expected one of a table", table.shape, index.shape);
                let at = self.redimension(index.at, &[1])?;
                let param = self.param(table, &table.shape)?;
                let at = self.push(Op::Embedding { table: param }, &[at])?;
                let shape = [index.shape.as_slice(), &[table.shape[1]]].concat();
                Ok(Sym::Value(Value::new(at, &shape, shape.len())))
            }
            (x, Sym::Const(t)) => {
                let x = self.value(x)?;
                let axis = fold::axis(axis, x.shape.len())?;
                let n = x.shape[axis] as i64;
                let list = t.whole("the places that are gathered")?;
                let run: Vec<i64> = list.iter().map(|&i| if i < 0 { i.saturating_add(n) } else { i }).collect();
                let start = run.first().copied().unwrap_or(-1);
                let fits = start >= 0 && run.iter().enumerate().all(|(i, &p)| p == start.saturating_add(i as i64));
                ensure!(fits, Unsupported, "entries {:?} of an axis, expected a run of them", t.brief());
                let part = self.part(&x, axis, start as usize, run.len())?;
                let shape = [&x.shape[..axis], &t.shape, &x.shape[axis + 1..]].concat();
                Ok(Sym::Value(self.reshape(&part, &shape)?))
            }
            _ => Err(err!(Unsupported, "entries of a value at places that depend on the input")),
        }
    }

    pub fn one_hot(&mut self, a: &mut Attributes<'a>, of: &Arguments<'_>) -> Result<Sym> {
        let x = self.value(of.need(0)?)?;
        let classes = of.need_constant(1)?.single().unwrap_or(0.0) as usize;
        let values = of.need_constant(2)?;
        let last = fold::axis(a.int("axis", -1)?, x.shape.len() + 1)? == x.shape.len();
        let fits = last && x.size() == 1 && values.brief() == [0.0, 1.0];
        ensure!(fits, Unsupported, "{classes} classes of {:?}, expected one class and 0 and 1", x.shape);
        let at = self.redimension(x.at, &[1])?;
        let at = self.push(Op::OneHot { classes }, &[at])?;
        let shape = [x.shape.as_slice(), &[classes]].concat();
        Ok(Sym::Value(Value::new(at, &shape, shape.len())))
    }
}
