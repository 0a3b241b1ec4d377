//! Which operation of ONNX is translated where, and those that only move values about.

use alloc::vec::Vec;

use super::attributes::Attributes;
use super::fold;
use super::tensor::{Tensor, is_float};
use super::translate::{Sym, Translator};
use super::value::Value;
use crate::error::{Result, ensure, err};
use crate::graph::{Activation, Op};

/// The arguments of a node.
pub(super) struct Arguments<'b>(pub &'b [Option<Sym>]);

impl<'b> Arguments<'b> {
    pub fn get(&self, i: usize) -> Option<&'b Sym> {
        self.0.get(i).and_then(Option::as_ref)
    }

    pub fn need(&self, i: usize) -> Result<&'b Sym> {
        self.get(i).ok_or_else(|| err!(InvalidArgument, "its argument {i} is missing"))
    }

    /// A constant that may be left out.
    pub fn constant(&self, i: usize) -> Result<Option<&'b Tensor>> {
        match self.get(i) {
            None => Ok(None),
            Some(Sym::Const(t)) => Ok(Some(t)),
            Some(_) => Err(err!(Unsupported, "its argument {i} depends on the input, expected a constant")),
        }
    }

    pub fn need_constant(&self, i: usize) -> Result<&'b Tensor> {
        self.constant(i)?.ok_or_else(|| err!(InvalidArgument, "its argument {i} is missing"))
    }
}

impl<'a> Translator<'a> {
    pub fn dispatch(
        &mut self,
        op: &str,
        a: &mut Attributes<'a>,
        args: &[Option<Sym>],
        outputs: usize,
    ) -> Result<Vec<Sym>> {
        let of = Arguments(args);
        if op == "Split" {
            let x = self.value(of.need(0)?)?;
            let axis = fold::axis(a.int("axis", 0)?, x.shape.len())?;
            a.ignore(&["num_outputs"]);
            let sizes = a.ints_or("split", of.constant(1)?)?.map(|v| Tensor::ints(&[v.len()], v));
            let parts = fold::parts(x.shape[axis], sizes.as_ref(), outputs)?;
            let part = |(start, len)| self.part(&x, axis, start, len).map(Sym::Value);
            return parts.into_iter().map(part).collect();
        }
        let one = match op {
            "Add" | "Sub" | "Mul" | "Div" => self.arithmetic(op, of.need(0)?, of.need(1)?)?,
            "Pow" => self.power(of.need(0)?, of.need_constant(1)?)?,
            "Neg" => self.arithmetic("Mul", of.need(0)?, &Sym::Const(Tensor::floats(&[], alloc::vec![-1.0])))?,
            "Sum" if args.len() == 2 => self.arithmetic("Add", of.need(0)?, of.need(1)?)?,
            "Sigmoid" => self.unary(of.need(0)?, Activation::Sigmoid)?,
            "Relu" => self.unary(of.need(0)?, Activation::Relu)?,
            "Softplus" => self.unary(of.need(0)?, Activation::Softplus)?,
            "Mish" => self.unary(of.need(0)?, Activation::Mish)?,
            "Swish" if a.float("alpha", 1.0)? == 1.0 => self.unary(of.need(0)?, Activation::Silu)?,
            "LeakyRelu" => {
                let slope = a.float("alpha", 0.01)?;
                self.unary(of.need(0)?, Activation::LeakyRelu { slope })?
            }
            "Gelu" => match a.text("approximate", "none")?.as_str() {
                "none" => self.unary(of.need(0)?, Activation::Gelu)?,
                "tanh" => self.unary(of.need(0)?, Activation::GeluTanh)?,
                other => return Err(err!(Unsupported, "its attribute approximate is {other:?}")),
            },
            "Tanh" => self.tanh(of.need(0)?)?,
            "Erf" => self.erf(of.need(0)?)?,
            "Clip" => {
                let bound = |i: usize, name: &str, a: &mut Attributes<'a>| -> Result<Option<f64>> {
                    let attribute = a.float(name, f32::NAN)?;
                    match of.constant(i)? {
                        Some(t) => {
                            let n = t.single();
                            n.map(Some).ok_or_else(|| err!(Unsupported, "bounds of {:?}, expected numbers", t.shape))
                        }
                        None => Ok((!attribute.is_nan()).then_some(f64::from(attribute))),
                    }
                };
                let (low, high) = (bound(1, "min", a)?, bound(2, "max", a)?);
                self.clip(of.need(0)?, low, high)?
            }
            "Max" if args.len() == 2 => self.clip_by(of.need(0)?, of.need(1)?, true)?,
            "Min" if args.len() == 2 => self.clip_by(of.need(0)?, of.need(1)?, false)?,
            "HardSigmoid" | "HardSwish" => {
                let x = self.value(of.need(0)?)?;
                let swish = op == "HardSwish";
                let slope = if swish { 1.0 / 6.0 } else { f64::from(a.float("alpha", 0.2)?) };
                let shift = if swish { 0.5 } else { f64::from(a.float("beta", 0.5)?) };
                let gate = self.affine(&x, slope, shift)?;
                let gate = self.clipped(&gate, 0.0, 1.0)?;
                if swish { self.arithmetic("Mul", &Sym::Value(x), &Sym::Value(gate))? } else { Sym::Value(gate) }
            }
            "PRelu" => self.prelu(of.need(0)?, of.need_constant(1)?)?,
            "Sin" | "Cos" | "Log" | "Sqrt" | "Reciprocal" => self.function(op, of.need(0)?)?,
            "Conv" => self.conv(a, &of)?,
            "ConvTranspose" => self.conv_transpose(a, &of)?,
            "Gemm" => self.gemm(a, &of)?,
            "MatMul" => self.matmul(of.need(0)?, of.need(1)?)?,
            "Einsum" => {
                let text = a.text("equation", "")?;
                self.einsum(&text, of.need(0)?, of.get(1))?
            }
            "Softmax" => {
                let axis = a.int("axis", if self.opset < 13 { 1 } else { -1 })?;
                self.softmax(of.need(0)?, axis)?
            }
            "Attention" => self.attention_node(a, &of)?,
            "InstanceNormalization" => self.instance_norm(a, &of)?,
            "GroupNormalization" => self.group_norm(a, &of)?,
            "LayerNormalization" | "RMSNormalization" | "SimplifiedLayerNormalization" => {
                self.layer_norm(op, a, &of)?
            }
            "BatchNormalization" => self.batch_norm(a, &of)?,
            "LpNormalization" => self.lp_norm(a, &of)?,
            "ReduceMean" | "ReduceSum" | "ReduceL2" | "ReduceSumSquare" => self.reduce(op, a, &of)?,
            "GlobalAveragePool" => {
                let x = self.value(of.need(0)?)?;
                let axes: Vec<usize> = (2..x.shape.len()).collect();
                Sym::Value(self.mean_of_positions(&x, &axes)?)
            }
            "AveragePool" => self.average_pool(a, &of)?,
            "MaxPool" => self.max_pool(a, &of)?,
            "Resize" | "Upsample" => self.resize(op, a, &of)?,
            "DepthToSpace" | "SpaceToDepth" => {
                let x = self.value(of.need(0)?)?;
                let n = a.size("blocksize", 0)?;
                let mode = a.text("mode", "DCR")?;
                self.pixels(op, &x, n, &mode)?
            }
            "Pad" => self.pad(a, &of)?,
            "Concat" => {
                let axis = a.need_int("axis")?;
                let list: Vec<&Sym> = (0..args.len()).map(|i| of.need(i)).collect::<Result<_>>()?;
                self.concat(&list, axis)?
            }
            "Gather" => self.gather(a, &of)?,
            "OneHot" => self.one_hot(a, &of)?,
            "Slice" => {
                let mut x = self.value(of.need(0)?)?;
                let given = [of.constant(1)?, of.constant(2)?, of.constant(3)?, of.constant(4)?];
                for (axis, (start, len, step)) in fold::slices(&x.shape, a, &given)? {
                    let all = len == x.shape[axis];
                    if step == -1 && all && len > 1 {
                        x = self.reversed(&x, axis)?;
                        continue;
                    }
                    ensure!(step == 1 || len == 1, Unsupported, "a slice in steps of {step}, expected 1");
                    x = self.part(&x, axis, start, len)?;
                }
                Sym::Value(x)
            }
            "Identity" | "Dropout" => {
                a.ignore(&["seed", "ratio"]);
                of.need(0)?.clone()
            }
            "Cast" | "CastLike" => {
                let to = match (op, of.get(1)) {
                    ("Cast", _) => a.need_int("to")?,
                    (_, Some(Sym::Const(t))) if t.is_int() => 7,
                    (_, Some(Sym::Value(v))) if v.whole => 7,
                    _ => 1,
                };
                a.ignore(&["saturate", "round_mode"]);
                let x = of.need(0)?;
                let whole = matches!(x, Sym::Value(v) if v.whole);
                // Halves are computed as f32 here: closer to what the network was trained as.
                let float = is_float(to) == Some(true);
                ensure!(float || (whole && to != 9), Unsupported, "values become whole numbers, expected floats");
                x.clone()
            }
            "Reshape" | "Flatten" | "Unsqueeze" | "Squeeze" | "Expand" => self.reshaped(op, a, &of)?,
            "Transpose" => self.transposed(a, of.need(0)?)?,
            "Tile" => {
                let times = of.need_constant(1)?.sizes("the repeats")?;
                ensure!(
                    times.iter().all(|&n| n == 1),
                    Unsupported,
                    "a value is repeated {times:?} times, expected once"
                );
                of.need(0)?.clone()
            }
            "Where" => match of.need(0)? {
                Sym::Const(c) if c.uniform() == Some(1.0) => of.need(1)?.clone(),
                Sym::Const(c) if c.uniform() == Some(0.0) => of.need(2)?.clone(),
                _ => {
                    return Err(err!(
                        Unsupported,
                        "values are chosen by a mask, expected one that is the same everywhere"
                    ));
                }
            },
            "If" | "Loop" | "Scan" => {
                return Err(err!(
                    Unsupported,
                    "the network has branches or loops, expected the same nodes for any input"
                ));
            }
            _ => {
                return Err(err!(
                    Unsupported,
                    "the operation has no counterpart here, nor is it a part of a known pattern"
                ));
            }
        };
        Ok(alloc::vec![one])
    }

    /// What stands for a name as a value, where that is more than a part of a pattern.
    pub fn value(&mut self, sym: &Sym) -> Result<Value> {
        let part = match sym {
            Sym::Value(v) => return Ok(v.clone()),
            Sym::Squared(v) => {
                let at = self.push(Op::Binary(crate::graph::Binary::Mul), &[v.at, v.at])?;
                return Ok(v.like(at));
            }
            Sym::Padded(v, pad) => return self.settle_padding(v, pad),
            Sym::Angle(angle) => return self.settle_angle(angle),
            Sym::Soft(soft) => return self.settle_soft(soft),
            Sym::Moment(m) => return self.settle_moment(m),
            Sym::Const(_) => {
                return Err(err!(Unsupported, "a constant stands where what depends on the input is expected"));
            }
            Sym::Scores(_) => "products of two values, expected attention: softmax(q k^T) v",
            Sym::Context(_) => "products of keys and values, expected linear attention",
            Sym::Centred(..) => "a value less its mean, expected a norm over channels",
            Sym::Log(_) => "a logarithm, expected the embedding of one",
            Sym::Gate(_) => "an error function or hyperbolic tangent, expected GELU",
            Sym::Cubic(_) => "a third power, expected GELU",
        };
        Err(err!(Unsupported, "it follows {part}"))
    }

    fn reshaped(&mut self, op: &str, a: &mut Attributes<'a>, of: &Arguments<'_>) -> Result<Sym> {
        let x = of.need(0)?;
        let Some(old) = x.shape() else {
            // What a norm divides by is expanded to the shape of what it divides.
            return match (op, x) {
                ("Expand", Sym::Moment(m)) => Ok(Sym::Moment(m.clone())),
                _ => self.value(x).map(Sym::Value),
            };
        };
        let shape = match op {
            "Reshape" => {
                let asked = of.need_constant(1)?.whole("the dimensions")?;
                fold::reshaped(&old, asked, a.int("allowzero", 0)? != 0)?
            }
            "Flatten" => fold::flattened(&old, a.int("axis", 1)?)?,
            "Unsqueeze" => fold::unsqueezed(&old, &a.ints_or("axes", of.constant(1)?)?.unwrap_or_default())?,
            "Squeeze" => fold::squeezed(&old, a.ints_or("axes", of.constant(1)?)?.as_deref())?,
            _ => {
                let asked = of.need_constant(1)?.sizes("the dimensions")?;
                let shape = super::tensor::broadcast(&old, &asked)?;
                if super::tensor::count(&shape)? != super::tensor::count(&old)? {
                    let zeros = Tensor::floats(&[], alloc::vec![0.0]);
                    self.budget.pay(&shape)?;
                    return self.arithmetic("Add", x, &Sym::Const(zeros.expanded(&shape)));
                }
                shape
            }
        };
        match x {
            Sym::Angle(angle) => Ok(Sym::Angle(angle.with_shape(shape))),
            Sym::Log(v) => Ok(Sym::Log(self.reshape(v, &shape)?)),
            Sym::Soft(_) | Sym::Scores(_) if shape == old => Ok(x.clone()),
            Sym::Scores(s) => Ok(Sym::Scores(self.reshape_scores(s, &shape)?)),
            x => {
                let v = self.value(x)?;
                Ok(Sym::Value(self.reshape(&v, &shape)?))
            }
        }
    }

    fn transposed(&mut self, a: &mut Attributes<'a>, x: &Sym) -> Result<Sym> {
        if let Sym::Context(c) = x {
            return c.transposed(a.ints("perm")?);
        }
        let settled = match x.shape() {
            Some(_) => x.clone(),
            None => Sym::Value(self.value(x)?),
        };
        let x = &settled;
        let order = fold::order(a, x.shape().unwrap_or_default().len())?;
        if let Sym::Soft(soft) = x {
            let axis = order.iter().position(|&o| o == soft.axis).unwrap_or(0);
            let of = self.transpose(&soft.of, &order);
            return Ok(Sym::Soft(super::attention::Soft { of, axis, scale: soft.scale }));
        }
        let v = self.value(x)?;
        Ok(Sym::Value(self.transpose(&v, &order)))
    }
}
