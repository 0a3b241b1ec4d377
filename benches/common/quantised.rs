//! A network's graph with its layers in bf16 or 8-bit integers, for timings: the scales are arbitrary, and no speed
//! depends on them.

use std::cell::RefCell;

use undiffuse::backend::{Backend, Network, ParamSource};
use undiffuse::graph::{Graph, Quantisation};
use undiffuse::pipeline::{PipelineOptions, Precision, Source};
use undiffuse::tensor::DType;
use undiffuse::weights::{TensorInfo, WeightSource};
use undiffuse::{Error, ErrorKind, Result};

/// The parameters of a graph, all 0.
struct Zeros(Graph);

impl WeightSource for Zeros {
    fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.0.params().iter().map(|p| p.name.as_str()).collect();
        names.sort_unstable();
        names
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        let found = self.0.params().iter().find(|p| p.name == name)?;
        Some(TensorInfo { dtype: DType::F32, shape: found.dims.as_slice().to_vec() })
    }

    fn read_f32(&self, _: &str, out: &mut [f32]) -> Result<()> {
        out.fill(0.0);
        Ok(())
    }
}

/// A backend that keeps the graph that it is given and compiles nothing.
struct Keep<'a> {
    graph: RefCell<Option<Graph>>,
    like: &'a dyn Backend,
}

impl Backend for Keep<'_> {
    fn name(&self) -> &'static str {
        "keep"
    }

    fn compile(&self, graph: &Graph, _: &dyn ParamSource) -> Result<Box<dyn Network>> {
        self.graph.replace(Some(graph.clone()));
        Err(Error::new(ErrorKind::Unsupported, "the graph is kept"))
    }

    fn bf16_beats_winograd(&self) -> bool {
        self.like.bf16_beats_winograd()
    }
}

/// The graph that this backend is given for this precision.
pub fn quantised(graph: &Graph, precision: Precision, like: &dyn Backend) -> Result<Graph> {
    let mut source = Source::new(graph.to_json()?, None, Box::new(Zeros(graph.clone())))?;
    let range = Quantisation::of_range(-1.0, 4.0)?;
    source.set_activations(graph.params().iter().map(|p| (p.name.clone(), range)).collect());
    let keep = Keep { graph: RefCell::new(None), like };
    let options = PipelineOptions { precision, ..PipelineOptions::default() };
    match (source.compile(&keep, &options), keep.graph.into_inner()) {
        (_, Some(graph)) => Ok(graph),
        (Err(e), None) => Err(e),
        (Ok(_), None) => Err(Error::new(ErrorKind::Unsupported, "the graph was not compiled")),
    }
}
