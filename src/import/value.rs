//! Where the axes of an ONNX value are in the graph's: layouts, and reshapes and transpositions, most of which only
//! say it anew.

use alloc::vec::Vec;

use super::translate::Translator;
use crate::error::{Result, err};
use crate::graph::{Op, ValueId};
use crate::tensor::{Dims, MAX_RANK};

/// A value of the file that depends on the input: a node of the graph. Its axes of more than one entry stand in the
/// graph in the order `order`, outermost first; the first `k` of them together are the channels, the others positions.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Value {
    pub at: ValueId,
    pub shape: Vec<usize>,
    pub order: Vec<usize>,
    pub k: usize,
    /// Whether its values are whole numbers.
    pub whole: bool,
}

impl Value {
    /// Row-major, the first `k` axes of more than one entry being channels.
    pub fn new(at: ValueId, shape: &[usize], k: usize) -> Self {
        let order: Vec<usize> = (0..shape.len()).filter(|&a| shape[a] != 1).collect();
        Self { at, shape: shape.to_vec(), k: k.min(order.len()), order, whole: false }
    }

    pub fn channels(&self) -> &[usize] {
        &self.order[..self.k]
    }

    pub fn positions(&self) -> &[usize] {
        &self.order[self.k..]
    }

    pub fn size(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn product(&self, axes: &[usize]) -> usize {
        axes.iter().map(|&a| self.shape[a]).product()
    }

    /// The dimensions in the graph. What more axes than a value may have would be, are one.
    pub fn dims(&self) -> Vec<usize> {
        let mut dims = alloc::vec![self.product(self.channels())];
        dims.extend(self.positions().iter().map(|&a| self.shape[a]));
        if dims.len() > MAX_RANK {
            let rest: usize = dims[1..].iter().product();
            dims.truncate(1);
            dims.push(rest);
        }
        dims
    }

    /// The same node with the same layout.
    pub fn like(&self, at: ValueId) -> Self {
        Self { at, whole: false, ..self.clone() }
    }

    /// Axes that have more than one entry.
    pub fn real(&self, axes: &[usize]) -> Vec<usize> {
        axes.iter().copied().filter(|&a| self.shape.get(a).is_some_and(|&n| n != 1)).collect()
    }

    /// With axes of one entry in front, up to `rank`.
    pub fn lifted(&self, rank: usize) -> Self {
        let lift = rank.saturating_sub(self.shape.len());
        let mut shape = alloc::vec![1; lift];
        shape.extend(&self.shape);
        Self { shape, order: self.order.iter().map(|a| a + lift).collect(), ..self.clone() }
    }

    pub fn is_row_major(&self) -> bool {
        self.order.is_sorted()
    }
}

impl Translator<'_> {
    /// A node under other dimensions of as many elements.
    pub fn redimension(&mut self, at: ValueId, dims: &[usize]) -> Result<ValueId> {
        let mut base = at;
        while let Some((Op::Reshape { .. }, [arg])) = self.node(base).map(|n| (&n.op, n.args.as_slice())) {
            base = *arg;
        }
        for at in [base, at] {
            if self.builder.dims(at)?.as_slice() == dims {
                return Ok(at);
            }
        }
        self.builder.push(Op::Reshape { dims: Dims::new(dims)? }, &[base])
    }

    /// The same layout with another number of axes that are channels.
    pub fn relabel(&mut self, x: &Value, k: usize) -> Result<Value> {
        let mut made = Value { k: k.min(x.order.len()), ..x.clone() };
        made.at = self.redimension(x.at, &made.dims())?;
        Ok(made)
    }

    /// The value with its axes in this order in the graph.
    pub fn permute(&mut self, x: &Value, order: &[usize], k: usize) -> Result<Value> {
        if x.order == order {
            return self.relabel(x, k);
        }
        // What stays in place behind all that moves is one run.
        let same = x.order.iter().rev().zip(order.iter().rev()).take_while(|(a, b)| a == b).count();
        let moved = order.len() - same;
        let inside = moved <= x.k && k == x.k;
        let mut at = x.at;
        if !inside {
            at = self.redimension(at, &[x.size()])?;
        }
        let mut now: Vec<usize> = x.order[..moved].to_vec();
        let target = &order[..moved];
        let mut shuffle = |this: &mut Self, rows: usize, columns: usize| -> Result<()> {
            if rows > 1 && columns > 1 {
                at = this.builder.push(Op::ShuffleChannels { rows, columns }, &[at])?;
            }
            Ok(())
        };
        // One rotation, or else the wanted axes one after the other to the front, the last one first.
        let turn = now.iter().position(|a| Some(a) == target.first()).unwrap_or(0);
        let rotated: Vec<usize> = now[turn..].iter().chain(&now[..turn]).copied().collect();
        if rotated == target {
            let (front, back) = (x.product(&now[..turn]), x.product(&now[turn..]));
            shuffle(self, front, back)?;
        } else {
            for &axis in target.iter().rev() {
                let place = now.iter().position(|&a| a == axis).unwrap_or(0);
                shuffle(self, x.product(&now[..place]), x.shape[axis])?;
                now.remove(place);
                now.insert(0, axis);
            }
        }
        let made = Value { at, order: order.to_vec(), k: k.min(order.len()), ..x.clone() };
        let at = self.redimension(made.at, &made.dims())?;
        Ok(Value { at, ..made })
    }

    /// The value with these axes as its channels, in this order; the others as they are.
    pub fn arrange(&mut self, x: &Value, channels: &[usize]) -> Result<Value> {
        let mut order = x.real(channels);
        let k = order.len();
        let rest: Vec<usize> = x.order.iter().copied().filter(|a| !order.contains(a)).collect();
        order.extend(rest);
        self.permute(x, &order, k)
    }

    /// The value in the layout of another of the same rank, as far as it has its axes.
    pub fn conform(&mut self, x: &Value, like: &Value) -> Result<Value> {
        let order = x.real(&like.order);
        let k = x.real(like.channels()).len();
        self.permute(x, &order, k)
    }

    /// The node of x as `[C, H, W]` or `[C, L]`, C being its axis 1 and the others as they are.
    pub fn image(&mut self, x: &Value) -> Result<ValueId> {
        let order: Vec<usize> = (0..x.shape.len()).collect();
        let made = self.permute(x, &x.real(&order), x.real(&[1]).len())?;
        let dims = x.shape.get(1..).unwrap_or(&[]);
        self.redimension(made.at, dims)
    }

    pub fn transpose(&mut self, x: &Value, order: &[usize]) -> Value {
        let shape = order.iter().map(|&a| x.shape[a]).collect();
        let place = |a: &usize| order.iter().position(|o| o == a).unwrap_or(0);
        Value { shape, order: x.order.iter().map(place).collect(), ..x.clone() }
    }

    pub fn reshape(&mut self, x: &Value, shape: &[usize]) -> Result<Value> {
        if x.shape == shape {
            return Ok(x.clone());
        }
        let groups =
            groups(&x.shape, shape).ok_or_else(|| err!(Shape, "a value of {:?} cannot become {shape:?}", x.shape))?;
        if let Some(pixels) = self.depth_to_space(x, shape, &groups)? {
            return Ok(pixels);
        }
        if let Some(pixels) = self.space_to_depth(x, shape)? {
            return Ok(pixels);
        }
        let mut x = x.clone();
        let runs = |x: &Value| {
            groups.iter().all(|(olds, _)| {
                let at = olds.first().and_then(|o| x.order.iter().position(|a| a == o));
                at.is_some_and(|at| x.order.get(at..at + olds.len()) == Some(olds.as_slice()))
            })
        };
        if !runs(&x) {
            let mut order = x.order.clone();
            order.sort_unstable();
            let k = usize::from(!order.is_empty());
            x = self.permute(&x, &order, k)?;
        }
        let (mut order, mut k, mut seen) = (Vec::new(), 0, 0);
        for &axis in &x.order {
            let Some((olds, news)) = groups.iter().find(|(olds, _)| olds.first() == Some(&axis)) else { continue };
            // Channels and positions that become one are split anew, behind the outermost axis.
            k = match x.k {
                _ if x.k >= seen + olds.len() => order.len() + news.len(),
                _ if x.k > seen => order.len() + 1,
                _ => k,
            };
            seen += olds.len();
            order.extend(news);
        }
        let made = Value { at: x.at, shape: shape.to_vec(), order, k, whole: x.whole };
        let at = self.redimension(made.at, &made.dims())?;
        Ok(Value { at, ..made })
    }

    /// `[.., h, p, w, q]` to `[.., h p, w q]`, the p and q being channels.
    fn depth_to_space(&mut self, x: &Value, shape: &[usize], groups: &[Group]) -> Result<Option<Value>> {
        let &[y_axis, x_axis] = x.positions() else { return Ok(None) };
        let mixed: Vec<&Group> =
            groups.iter().filter(|(o, n)| o.len() == 2 && n.len() == 1 && x.positions().contains(&o[0])).collect();
        let [(first, rows), (second, columns)] = mixed.as_slice() else { return Ok(None) };
        let (&[h, p], &[w, q]) = (first.as_slice(), second.as_slice()) else { return Ok(None) };
        let channels = x.channels();
        if h != y_axis || w != x_axis || !channels.contains(&p) || !channels.contains(&q) {
            return Ok(None);
        }
        let rest: Vec<usize> = channels.iter().copied().filter(|&a| a != p && a != q).collect();
        let blocks_first = match channels.split_first_chunk::<2>() {
            Some(([a, b], tail)) if *a == p && *b == q && tail == rest => true,
            _ if channels.ends_with(&[p, q]) && channels.starts_with(&rest) => false,
            _ => return Ok(None),
        };
        let mut order = Vec::new();
        for a in &rest {
            let Some((_, news)) = groups.iter().find(|(o, _)| o.as_slice() == [*a]) else { return Ok(None) };
            order.extend(news);
        }
        let k = order.len();
        order.extend(rows.iter().chain(columns));
        let at = self.redimension(x.at, &x.dims())?;
        let at = self.builder.push(Op::DepthToSpace { factor: [x.shape[p], x.shape[q]], blocks_first }, &[at])?;
        Ok(Some(Value { at, shape: shape.to_vec(), order, k, whole: false }))
    }

    /// `[1, C, p, q, h, w]`, in the graph as `[C, h, p, w, q]`, to `[1, C p q, h, w]`.
    fn space_to_depth(&mut self, x: &Value, shape: &[usize]) -> Result<Option<Value>> {
        let &[_, c, p, q, h, w] = x.shape.as_slice() else { return Ok(None) };
        let order = [&[1][..], &[4, 2, 5, 3]].concat();
        let merged = c.saturating_mul(p).saturating_mul(q);
        if x.order != x.real(&order) || p == 1 || q == 1 || h == 1 || w == 1 || shape != [1, merged, h, w] {
            return Ok(None);
        }
        let at = self.redimension(x.at, &[c, h.saturating_mul(p), w.saturating_mul(q)])?;
        let at = self.builder.push(Op::SpaceToDepth { factor: [p, q], blocks_first: false }, &[at])?;
        Ok(Some(Value::new(at, shape, 1)))
    }
}

/// Axes of an old shape, and those of the new one that have the same elements.
type Group = (Vec<usize>, Vec<usize>);

/// The smallest runs of axes that stand for each other; axes of one entry stand for none. `None` where the shapes have
/// not as many elements.
fn groups(old: &[usize], new: &[usize]) -> Option<Vec<Group>> {
    let real = |s: &[usize]| -> Vec<usize> { (0..s.len()).filter(|&a| s[a] != 1).collect() };
    let (olds, news) = (real(old), real(new));
    if old.contains(&0) || new.contains(&0) {
        return None;
    }
    let (mut i, mut j, mut groups) = (0, 0, Vec::new());
    while i < olds.len() && j < news.len() {
        let (mut a, mut b) = (old[olds[i]], new[news[j]]);
        let (from, to) = (i, j);
        while a != b {
            if a < b {
                i += 1;
                a = a.checked_mul(old[*olds.get(i)?])?;
            } else {
                j += 1;
                b = b.checked_mul(new[*news.get(j)?])?;
            }
        }
        i += 1;
        j += 1;
        groups.push((olds[from..i].to_vec(), news[to..j].to_vec()));
    }
    (i == olds.len() && j == news.len()).then_some(groups)
}
