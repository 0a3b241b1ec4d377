//! Attention and linear attention as files write them out: products, a factor, a softmax, products.

use alloc::string::String;
use alloc::vec::Vec;

use super::attributes::Attributes;
use super::dispatch::Arguments;
use super::fold;
use super::gates::near;
use super::tensor::Tensor;
use super::translate::{Sym, Translator};
use super::value::Value;
use crate::error::{Result, ensure, err};
use crate::graph::Op;

/// `scale * q k^T`, of q `[.., n, d]` and k `[.., m, d]`, or with `soft` its softmax over m.
#[derive(Clone, Debug)]
pub(super) struct Scores {
    q: Value,
    k: Value,
    scale: f64,
    soft: bool,
}

impl Scores {
    pub fn shape(&self) -> Vec<usize> {
        let mut shape = self.q.shape.clone();
        if let (Some(last), Some(m)) = (shape.last_mut(), self.k.shape.iter().rev().nth(1)) {
            *last = *m;
        }
        shape
    }
}

/// A factor times the softmax of a value along an axis.
#[derive(Clone, Debug)]
pub(super) struct Soft {
    pub of: Value,
    pub axis: usize,
    pub scale: f64,
}

/// `scale * softmax(k) v^T`, of k `[.., d, n]`, its softmax over n, and v `[.., e, n]`.
#[derive(Clone, Debug)]
pub(super) struct Context {
    k: Value,
    v: Value,
    scale: f64,
    /// Whether e stands before d.
    turned: bool,
}

impl Context {
    pub fn transposed(&self, order: Option<Vec<i64>>) -> Result<Sym> {
        let n = self.k.shape.len() as i64;
        let mut wanted: Vec<i64> = (0..n).collect();
        let len = wanted.len();
        if len >= 2 {
            wanted.swap(len - 1, len - 2);
        }
        let same = order.as_ref().is_some_and(|o| o.len() == len && o.iter().enumerate().all(|(i, &a)| a == i as i64));
        ensure!(same || order == Some(wanted), Unsupported, "products of keys and values in another order");
        Ok(Sym::Context(Self { turned: self.turned == same, ..self.clone() }))
    }
}

fn swapped(rank: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rank).collect();
    if rank >= 2 {
        order.swap(rank - 1, rank - 2);
    }
    order
}

impl<'a> Translator<'a> {
    pub fn attention_step(&mut self, op: &str, a: &Sym, b: &Sym) -> Result<Option<Sym>> {
        let (part, other) = match (op, a, b) {
            (_, Sym::Scores(_) | Sym::Soft(_) | Sym::Context(_), Sym::Const(t)) => (a, t),
            ("Add" | "Mul", Sym::Const(t), Sym::Scores(_) | Sym::Soft(_) | Sym::Context(_)) => (b, t),
            _ => return Ok(None),
        };
        if let (Sym::Scores(s), "Add" | "Sub") = (part, op) {
            ensure!(other.uniform() == Some(0.0) && !s.soft, Unsupported, "attention with a mask or a bias");
            return Ok(Some(part.clone()));
        }
        let Some(n) = other.single().filter(|_| matches!(op, "Mul" | "Div")) else { return Ok(None) };
        let by = if op == "Mul" { n } else { 1.0 / n };
        Ok(match part {
            Sym::Scores(s) if !s.soft => Some(Sym::Scores(Scores { scale: s.scale * by, ..s.clone() })),
            Sym::Soft(s) => Some(Sym::Soft(Soft { scale: s.scale * by, ..s.clone() })),
            Sym::Context(c) => Some(Sym::Context(Context { scale: c.scale * by, ..c.clone() })),
            _ => None,
        })
    }

    pub fn softmax(&mut self, x: &Sym, axis: i64) -> Result<Sym> {
        if let Sym::Scores(s) = x {
            let last = s.q.shape.len().saturating_sub(1);
            let fits = !s.soft && fold::axis(axis, s.q.shape.len())? == last;
            ensure!(fits, Unsupported, "the softmax of products over axis {axis}, expected the last");
            return Ok(Sym::Scores(Scores { soft: true, ..s.clone() }));
        }
        let of = self.value(x)?;
        let axis = fold::axis(axis, of.shape.len())?;
        ensure!(self.opset >= 13 || axis + 1 == of.shape.len(), Unsupported, "a softmax over several axes");
        Ok(Sym::Soft(Soft { of, axis, scale: 1.0 }))
    }

    pub fn settle_soft(&mut self, s: &Soft) -> Result<Value> {
        let x = self.arrange(&s.of, &[s.axis])?;
        let at = self.push(Op::Softmax, &[x.at])?;
        self.affine(&x.like(at), s.scale, 0.0)
    }

    pub fn reshape_scores(&mut self, s: &Scores, shape: &[usize]) -> Result<Scores> {
        let old = s.shape();
        let tail = |s: &[usize]| s.len().checked_sub(2).map(|n| s[n..].to_vec());
        ensure!(
            tail(&old) == tail(shape) && tail(shape).is_some(),
            Unsupported,
            "products of {old:?} become {shape:?}"
        );
        let lead = &shape[..shape.len() - 2];
        let mut of = |v: &Value| {
            let n = v.shape.len();
            self.reshape(v, &[lead, &v.shape[n - 2..]].concat())
        };
        Ok(Scores { q: of(&s.q)?, k: of(&s.k)?, ..s.clone() })
    }

    pub fn matmul(&mut self, a: &Sym, b: &Sym) -> Result<Sym> {
        match (a, b) {
            (Sym::Scores(s), b) if s.soft => {
                let v = self.value(b)?;
                self.attention(&s.q, &s.k, &v, s.scale).map(Sym::Value)
            }
            (x, Sym::Const(t)) => {
                let x = self.value(x)?;
                self.times(&x, t, x.shape.len().saturating_sub(1), 0)
            }
            (Sym::Const(t), x) => {
                let x = self.value(x)?;
                ensure!(x.shape.len() >= 2, Unsupported, "a matrix times {:?}", x.shape);
                self.times(&x, t, x.shape.len() - 2, 1)
            }
            (Sym::Soft(k), v @ Sym::Value(_)) if k.axis + 1 == k.of.shape.len() => {
                let v = self.value(v)?;
                let v = self.transpose(&v, &swapped(v.shape.len()));
                Ok(Sym::Context(Context { k: k.of.clone(), v, scale: k.scale, turned: false }))
            }
            (v @ Sym::Value(_), Sym::Soft(k)) if k.axis + 2 == k.of.shape.len() => {
                let v = self.value(v)?;
                let turned = self.transpose(&k.of, &swapped(k.of.shape.len()));
                Ok(Sym::Context(Context { k: turned, v, scale: k.scale, turned: true }))
            }
            (Sym::Context(c), Sym::Soft(q)) if c.turned && q.axis + 2 == q.of.shape.len() => {
                self.linear_attention(c, &q.of, q.scale).map(Sym::Value)
            }
            (Sym::Soft(q), Sym::Context(c)) if !c.turned && q.axis + 1 == q.of.shape.len() => {
                let order = swapped(q.of.shape.len());
                let of = self.transpose(&q.of, &order);
                let made = self.linear_attention(c, &of, q.scale)?;
                Ok(Sym::Value(self.transpose(&made, &order)))
            }
            (q, k) => {
                let (q, k) = (self.value(q)?, self.value(k)?);
                let n = q.shape.len();
                ensure!(n >= 2 && k.shape.len() == n, Unsupported, "products of {:?} and {:?}", q.shape, k.shape);
                let fits = q.shape[..n - 2] == k.shape[..n - 2] && q.shape[n - 1] == k.shape[n - 2];
                ensure!(fits, Unsupported, "products of {:?} and {:?}", q.shape, k.shape);
                let k = self.transpose(&k, &swapped(n));
                Ok(Sym::Scores(Scores { q, k, scale: 1.0, soft: false }))
            }
        }
    }

    /// A value times a matrix, summed over an axis of the value and over `summed` of the matrix.
    fn times(&mut self, x: &Value, t: &Tensor, axis: usize, summed: usize) -> Result<Sym> {
        let lead = t.shape.len().saturating_sub(2);
        let fits = t.shape.len() >= 2 && t.shape[..lead].iter().all(|&n| n == 1) && !x.shape.is_empty();
        ensure!(fits, Unsupported, "products with a constant of {:?}, expected a matrix", t.shape);
        let t = t.with_shape(&t.shape[lead..]);
        let t = if summed == 0 {
            self.budget.pay(&t.shape)?;
            t.transposed(&[1, 0])
        } else {
            t
        };
        self.linear(x, axis, &t, None).map(Sym::Value)
    }

    /// The leading axes of a value of heads, and the last, as channels; the one before it as positions.
    fn heads(&mut self, x: &Value, swap: bool) -> Result<Value> {
        let n = x.shape.len();
        let (channel, _) = if swap { (n - 2, n - 1) } else { (n - 1, n - 2) };
        let axes: Vec<usize> = (0..n - 2).chain([channel]).collect();
        self.arrange(x, &axes)
    }

    /// `softmax(scale q k^T) v`, of q `[.., n, d]`, k `[.., m, d]` and v `[.., m, e]`.
    fn attention(&mut self, q: &Value, k: &Value, v: &Value, scale: f64) -> Result<Value> {
        let n = q.shape.len();
        let alike = n >= 2
            && [k, v].iter().all(|x| x.shape.len() == n && x.shape[..n - 2] == q.shape[..n - 2])
            && k.shape[n - 1] == q.shape[n - 1]
            && k.shape[n - 2] == v.shape[n - 2];
        ensure!(alike, Unsupported, "attention of {:?}, {:?} and {:?}", q.shape, k.shape, v.shape);
        let heads: usize = q.shape[..n - 2].iter().product();
        let mut scale = scale * libm::sqrt(q.shape[n - 1] as f64);
        let (mut q, mut k) = (self.heads(q, false)?, self.heads(k, false)?);
        // What q and k were multiplied by before is a part of the factor.
        for x in [&mut q, &mut k] {
            if let Some((base, s, t)) = self.affine_of(x.at)
                && t == 0.0
            {
                x.at = base;
                scale *= s;
            }
        }
        if !near(scale, 1.0) {
            q = self.affine(&q, scale, 0.0)?;
        }
        let v = self.heads(v, false)?;
        let at = self.push(Op::Attention { heads }, &[q.at, k.at, v.at])?;
        let mut shape = q.shape.clone();
        shape[n - 1] = v.shape[n - 1];
        let mut made = Value { at, order: Vec::new(), shape, k: 0, whole: false };
        let lead: Vec<usize> = (0..n - 2).chain([n - 1]).collect();
        made.order = made.real(&lead);
        made.k = made.order.len();
        let rows = made.real(&[n - 2]);
        made.order.extend(rows);
        Ok(made)
    }

    fn linear_attention(&mut self, c: &Context, q: &Value, scale: f64) -> Result<Value> {
        let n = q.shape.len();
        let lead = n.saturating_sub(2);
        let alike = n >= 2
            && [&c.k, &c.v].iter().all(|x| x.shape.len() == n && x.shape[..lead] == q.shape[..lead])
            && c.k.shape[lead] == q.shape[lead]
            && c.k.shape[n - 1] == c.v.shape[n - 1];
        ensure!(alike, Unsupported, "linear attention of {:?}, {:?}, {:?}", q.shape, c.k.shape, c.v.shape);
        let heads: usize = q.shape[..lead].iter().product();
        let (q, k, v) = (self.heads(q, true)?, self.heads(&c.k, true)?, self.heads(&c.v, true)?);
        let at = self.push(Op::LinearAttention { heads }, &[q.at, k.at, v.at])?;
        let mut shape = q.shape.clone();
        shape[lead] = v.shape[lead];
        let mut made = Value { at, order: Vec::new(), shape, k: 0, whole: false };
        let channels: Vec<usize> = (0..=lead).collect();
        made.order = made.real(&channels);
        made.k = made.order.len();
        let rows = made.real(&[n - 1]);
        made.order.extend(rows);
        self.affine(&made, c.scale * scale, 0.0)
    }

    pub fn einsum(&mut self, text: &str, a: &Sym, b: Option<&Sym>) -> Result<Sym> {
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let refused =
            || err!(Unsupported, "the equation {:?}, expected one of two matrices", super::protobuf::shown(&text));
        let (left, right) = text.split_once("->").ok_or_else(refused)?;
        ensure!(text.is_ascii() && !text.contains('.'), Unsupported, "an equation with an ellipsis");
        let letters = |s: &str| -> Vec<char> { s.chars().collect() };
        let out = letters(right);
        let to = |from: &[char], to: &[char]| -> Option<Vec<i64>> {
            let place = |c: &char| from.iter().position(|f| f == c).map(|i| i as i64);
            to.iter().map(place).collect::<Option<Vec<_>>>().filter(|o| o.len() == from.len())
        };
        let Some(b) = b else {
            let order = to(&letters(left), &out).ok_or_else(refused)?;
            let rank = a.shape().map_or(order.len(), |s| s.len());
            ensure!(rank == order.len(), Shape, "the equation {text:?} of a value of {rank} dimensions");
            return self.permuted(a, &order);
        };
        let (one, two) = left.split_once(',').ok_or_else(refused)?;
        let (one, two) = (letters(one), letters(two));
        for (sym, letters) in [(a, &one), (b, &two)] {
            let rank = sym.shape().map_or(letters.len(), |s| s.len());
            ensure!(rank == letters.len(), Shape, "the equation {text:?} of a value of {rank} dimensions");
        }
        let summed: Vec<char> = one.iter().copied().filter(|c| two.contains(c) && !out.contains(c)).collect();
        let batch: Vec<char> = out.iter().copied().filter(|c| one.contains(c) && two.contains(c)).collect();
        let own = |list: &[char]| -> Vec<char> {
            list.iter().copied().filter(|c| !batch.contains(c) && !summed.contains(c)).collect()
        };
        let (i, j) = (own(&one), own(&two));
        ensure!(summed.len() == 1, Unsupported, "the equation {text:?} sums over {} axes, expected one", summed.len());
        let single = i.len() == 1 && j.len() == 1;
        let ordered = |first: &[char], second: &[char]| [batch.as_slice(), first, second].concat();
        if let (Sym::Const(t), true) = (b, batch.is_empty() && j.len() == 1) {
            // A linear map of an axis, wherever the result has it.
            let matrix = to(&two, &[j[0], summed[0]]).ok_or_else(refused)?;
            let matrix = t.transposed(&fold::axes(&matrix, 2)?);
            let axis = one.iter().position(|&c| c == summed[0]).ok_or_else(refused)?;
            let x = self.value(a)?;
            let made = self.linear(&x, axis, &matrix, None)?;
            let mut has = one.clone();
            has[axis] = j[0];
            let order = to(&has, &out).ok_or_else(refused)?;
            return self.permuted(&Sym::Value(made), &order);
        }
        ensure!(single, Unsupported, "the equation {text:?}, expected products of matrices");
        let (first, second) = ((a, &one, &i), (b, &two, &j));
        if matches!(a, Sym::Scores(_)) || matches!(b, Sym::Scores(_)) {
            // Weights times values, in whatever order the result has its axes.
            let ((s, s_has, s_own), (v, v_has, v_own)) = match a {
                Sym::Scores(_) => (first, second),
                _ => (second, first),
            };
            ensure!(
                *s_has == ordered(s_own, &summed),
                Unsupported,
                "the equation {text:?} of a softmax that is turned"
            );
            let v_order = to(v_has, &ordered(&summed, v_own)).ok_or_else(refused)?;
            let v = self.permuted(v, &v_order)?;
            let made = self.matmul(s, &v)?;
            let order = to(&ordered(s_own, v_own), &out).ok_or_else(refused)?;
            return self.permuted(&made, &order);
        }
        let ((x, x_has, x_own), (y, y_has, y_own)) = match out {
            ref out if *out == ordered(&i, &j) => (first, second),
            ref out if *out == ordered(&j, &i) => (second, first),
            _ => return Err(refused()),
        };
        let x_order = to(x_has, &ordered(x_own, &summed)).ok_or_else(refused)?;
        let y_order = to(y_has, &ordered(&summed, y_own)).ok_or_else(refused)?;
        let (x, y) = (self.permuted(x, &x_order)?, self.permuted(y, &y_order)?);
        self.matmul(&x, &y)
    }

    fn permuted(&mut self, x: &Sym, order: &[i64]) -> Result<Sym> {
        if order.iter().enumerate().all(|(i, &a)| a == i as i64) {
            return Ok(x.clone());
        }
        match x {
            Sym::Context(c) => c.transposed(Some(order.to_vec())),
            Sym::Soft(s) => {
                let order = fold::axes(order, s.of.shape.len())?;
                let axis = order.iter().position(|&o| o == s.axis).unwrap_or(0);
                let of = self.transpose(&s.of, &order);
                Ok(Sym::Soft(Soft { of, axis, scale: s.scale }))
            }
            x => {
                let v = self.value(x)?;
                let order = fold::axes(order, v.shape.len())?;
                Ok(Sym::Value(self.transpose(&v, &order)))
            }
        }
    }

    /// The operation of operator set 23.
    pub fn attention_node(&mut self, a: &mut Attributes<'a>, of: &Arguments<'_>) -> Result<Sym> {
        let plain = (3..of.0.len()).all(|i| of.get(i).is_none());
        ensure!(plain && a.int("is_causal", 0)? == 0, Unsupported, "attention with a mask or a cache");
        ensure!(a.float("softcap", 0.0)? == 0.0, Unsupported, "attention with a soft cap");
        let (heads, kv) = (a.size("q_num_heads", 0)?, a.size("kv_num_heads", 0)?);
        ensure!(heads == kv, Unsupported, "attention of {heads} heads of queries and {kv} of keys");
        let scale = a.float("scale", f32::NAN)?;
        a.ignore(&["qk_matmul_output_mode", "softmax_precision"]);
        let mut parts = Vec::new();
        for i in 0..3 {
            let x = self.value(of.need(i)?)?;
            parts.push(match *x.shape.as_slice() {
                [b, n, c] if heads > 0 && c % heads == 0 => {
                    let split = self.reshape(&x, &[b, n, heads, c / heads])?;
                    self.transpose(&split, &[0, 2, 1, 3])
                }
                _ => x,
            });
        }
        let [q, k, v] = parts.as_slice() else { return Err(err!(InvalidArgument, "three arguments are expected")) };
        let d = q.shape.last().copied().unwrap_or(1);
        let scale = if scale.is_nan() { 1.0 / libm::sqrt(d as f64) } else { f64::from(scale) };
        let made = self.attention(q, k, v, scale)?;
        if heads == 0 {
            return Ok(Sym::Value(made));
        }
        let back = self.transpose(&made, &[0, 2, 1, 3]);
        let shape = [back.shape[0], back.shape[1], back.shape[2..].iter().product()];
        Ok(Sym::Value(self.reshape(&back, &shape)?))
    }
}
