//! The messages of an ONNX file: as much of them as a graph needs. Names and data are borrowed from the file.

use alloc::vec::Vec;

use super::protobuf::{Fields, Wire, shown};
use crate::error::{Result, ensure, err};

/// The most nodes, initialisers or other parts of one graph that are read; far above any real one.
pub(super) const MAX_PARTS: usize = 1 << 18;
/// The most dimensions of a tensor.
pub(super) const MAX_RANK: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Model<'a> {
    pub opset: i64,
    pub nodes: Vec<Node<'a>>,
    pub initializers: Vec<TensorProto<'a>>,
    pub inputs: Vec<ValueInfo<'a>>,
    pub outputs: Vec<&'a str>,
}

#[derive(Debug, Default)]
pub(super) struct Node<'a> {
    pub name: &'a str,
    pub op: &'a str,
    pub domain: &'a str,
    pub inputs: Vec<&'a str>,
    pub outputs: Vec<&'a str>,
    pub attributes: Vec<(&'a str, Attribute<'a>)>,
}

#[derive(Clone, Debug)]
pub(super) enum Attribute<'a> {
    Float(f32),
    Int(i64),
    Text(&'a [u8]),
    Tensor(TensorProto<'a>),
    Floats(Vec<f32>),
    Ints(Vec<i64>),
    /// A graph within the graph, as If and Loop have it.
    Graph,
    Other(i64),
}

#[derive(Clone, Debug, Default)]
pub(super) struct TensorProto<'a> {
    pub name: &'a str,
    pub dims: Vec<i64>,
    pub data_type: i64,
    pub raw: Option<&'a [u8]>,
    pub floats: Vec<f32>,
    pub ints: Vec<i64>,
    pub external: Vec<(&'a str, &'a str)>,
    pub is_external: bool,
    pub has_other: bool,
}

/// An input of the graph: its name, element type and dimensions, of which those that are no numbers are names.
#[derive(Debug, Default)]
pub(super) struct ValueInfo<'a> {
    pub name: &'a str,
    pub element: i64,
    pub dims: Option<Vec<Dim<'a>>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Dim<'a> {
    Number(i64),
    Name(&'a str),
}

fn each<'a>(message: &'a [u8], mut of: impl FnMut(u64, Wire<'a>) -> Result<()>) -> Result<()> {
    let mut fields = Fields::new(message);
    while let Some((field, wire)) = fields.next()? {
        of(field, wire)?;
    }
    Ok(())
}

fn push<T>(list: &mut Vec<T>, what: &str, one: T) -> Result<()> {
    ensure!(list.len() < MAX_PARTS, Unsupported, "the file has more than {MAX_PARTS} {what}");
    list.push(one);
    Ok(())
}

impl<'a> Model<'a> {
    /// The model in the bytes of a file.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let (mut model, mut graph, mut version) = (Self::default(), None, None);
        each(bytes, |field, wire| {
            match field {
                1 => version = Some(wire.number("the version of the format")?),
                7 => {
                    ensure!(graph.is_none(), InvalidArgument, "the file has two graphs");
                    graph = Some(wire.bytes("a graph")?);
                }
                8 => {
                    let (mut domain, mut opset) = ("", 0);
                    each(wire.bytes("an operator set")?, |field, wire| {
                        match field {
                            1 => domain = wire.text("domain")?,
                            2 => opset = wire.signed("the version of an operator set")?,
                            _ => {}
                        }
                        Ok(())
                    })?;
                    if domain.is_empty() || domain == "ai.onnx" {
                        model.opset = opset;
                    }
                }
                // Functions of its own count where a node calls one; training is none of a network's business.
                _ => {}
            }
            Ok(())
        })?;
        let graph = graph.filter(|_| version.is_some());
        let graph = graph.ok_or_else(|| err!(InvalidArgument, "no ONNX file: it has no graph or no version"))?;
        ensure!(
            (11..=30).contains(&model.opset),
            Unsupported,
            "the file is of operator set {}, expected 11 to 30",
            model.opset
        );
        model.graph(graph)?;
        Ok(model)
    }

    fn graph(&mut self, message: &'a [u8]) -> Result<()> {
        each(message, |field, wire| match field {
            1 => push(&mut self.nodes, "nodes", Node::parse(wire.bytes("a node")?)?),
            5 => push(&mut self.initializers, "initialisers", TensorProto::parse(wire.bytes("a tensor")?)?),
            11 => push(&mut self.inputs, "inputs", ValueInfo::parse(wire.bytes("an input")?)?),
            12 => push(&mut self.outputs, "outputs", ValueInfo::parse(wire.bytes("an output")?)?.name),
            15 => Err(err!(Unsupported, "the file has sparse initialisers")),
            _ => Ok(()),
        })
    }
}

impl<'a> Node<'a> {
    fn parse(message: &'a [u8]) -> Result<Self> {
        let mut node = Self::default();
        each(message, |field, wire| {
            match field {
                1 => push(&mut node.inputs, "inputs of a node", wire.text("name of an input")?)?,
                2 => push(&mut node.outputs, "outputs of a node", wire.text("name of an output")?)?,
                3 => node.name = wire.text("name of a node")?,
                4 => node.op = wire.text("name of an operation")?,
                5 => {
                    let one = attribute(wire.bytes("an attribute")?)?;
                    push(&mut node.attributes, "attributes of a node", one)?;
                }
                7 => node.domain = wire.text("domain")?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(node)
    }
}

fn attribute(message: &[u8]) -> Result<(&str, Attribute<'_>)> {
    let (mut name, mut kind) = ("", 0);
    let (mut float, mut int, mut text, mut tensor) = (0.0, 0, &[][..], None);
    let (mut floats, mut ints, mut graph) = (Vec::new(), Vec::new(), false);
    each(message, |field, wire| {
        match field {
            1 => name = wire.text("name of an attribute")?,
            2 => float = wire.float("a float")?,
            3 => int = wire.signed("a number")?,
            4 => text = wire.bytes("a text")?,
            5 => tensor = Some(TensorProto::parse(wire.bytes("a tensor")?)?),
            6 | 11 => graph = true,
            7 => wire.floats("floats", &mut floats)?,
            8 => wire.numbers("numbers", &mut ints)?,
            20 => kind = wire.signed("the type of an attribute")?,
            _ => {}
        }
        Ok(())
    })?;
    let value = match kind {
        _ if graph => Attribute::Graph,
        1 => Attribute::Float(float),
        2 => Attribute::Int(int),
        3 => Attribute::Text(text),
        4 => Attribute::Tensor(tensor.unwrap_or_default()),
        6 => Attribute::Floats(floats),
        7 => Attribute::Ints(ints),
        other => Attribute::Other(other),
    };
    Ok((name, value))
}

impl<'a> TensorProto<'a> {
    fn parse(message: &'a [u8]) -> Result<Self> {
        let mut t = Self::default();
        each(message, |field, wire| {
            match field {
                1 => {
                    wire.numbers("dimensions", &mut t.dims)?;
                    ensure!(t.dims.len() <= MAX_RANK, Unsupported, "a tensor has more than {MAX_RANK} dimensions");
                }
                2 => t.data_type = wire.signed("a type of elements")?,
                3 | 6 => t.has_other = true,
                4 => wire.floats("floats", &mut t.floats)?,
                5 | 7 | 11 => wire.numbers("numbers", &mut t.ints)?,
                8 => t.name = wire.text("name of a tensor")?,
                9 => t.raw = Some(wire.bytes("the data of a tensor")?),
                10 => wire.doubles("doubles", &mut t.floats)?,
                13 => {
                    let (mut key, mut value) = ("", "");
                    each(wire.bytes("a place of data")?, |field, wire| {
                        match field {
                            1 => key = wire.text("key")?,
                            2 => value = wire.text("value")?,
                            _ => {}
                        }
                        Ok(())
                    })?;
                    push(&mut t.external, "places of data", (key, value))?;
                }
                14 => t.is_external = wire.number("a place of data")? == 1,
                _ => {}
            }
            Ok(())
        })
        .map_err(|e| e.context(format_args!("tensor {}", shown(t.name))))?;
        Ok(t)
    }
}

impl<'a> ValueInfo<'a> {
    fn parse(message: &'a [u8]) -> Result<Self> {
        let mut info = Self::default();
        each(message, |field, wire| {
            match field {
                1 => info.name = wire.text("name of a value")?,
                2 => each(wire.bytes("a type")?, |field, wire| {
                    if field == 1 { info.tensor(wire.bytes("a type of tensors")?) } else { Ok(()) }
                })?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(info)
    }

    fn tensor(&mut self, message: &'a [u8]) -> Result<()> {
        each(message, |field, wire| {
            match field {
                1 => self.element = wire.signed("a type of elements")?,
                2 => {
                    let mut dims = Vec::new();
                    each(wire.bytes("a shape")?, |field, wire| {
                        if field == 1 {
                            dims.push(dim(wire.bytes("a dimension")?)?);
                            ensure!(dims.len() <= MAX_RANK, Unsupported, "a value has more than {MAX_RANK} dimensions");
                        }
                        Ok(())
                    })?;
                    self.dims = Some(dims);
                }
                _ => {}
            }
            Ok(())
        })
    }
}

fn dim(message: &[u8]) -> Result<Dim<'_>> {
    let mut dim = Dim::Name("");
    each(message, |field, wire| {
        match field {
            1 => dim = Dim::Number(wire.signed("a dimension")?),
            2 => dim = Dim::Name(wire.text("name of a dimension")?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(dim)
}
