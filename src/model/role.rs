//! What a parameter is for, by which it is initialised.

use super::ModelConfig;
use crate::graph::Param;

/// What a parameter is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ParamRole {
    /// The kernel of a convolution, `[out, in, kh, kw]`.
    Conv,
    /// The matrix of a linear map, `[out, in]`.
    Dense,
    /// An offset: tied `[out]`, or one for each element.
    Bias,
    /// The last linear map, whose zeros make the 2015 network one that predicts nothing: a matrix, or a table of a
    /// matrix for each step.
    Readout,
    /// The centres of radial basis functions, `[units, D]`.
    Centre,
    /// Their widths, `[units]`.
    Width,
    /// The factors of a norm, `[C]`.
    Norm,
    /// A table of embeddings, `[rows, dim]`, or stored frequencies.
    Embedding,
}

impl ModelConfig {
    /// What a parameter of [`ModelConfig::build`]'s graph is for.
    pub fn role(&self, param: &Param) -> ParamRole {
        let name = param.name.as_str();
        let readout = match self {
            Self::Multiscale2015(c) => name == c.last_layer().as_str(),
            _ => name == "readout.weight",
        };
        match param.dims.rank() {
            _ if readout => ParamRole::Readout,
            _ if name == "basis.centres" => ParamRole::Centre,
            _ if name == "basis.widths" => ParamRole::Width,
            _ if name == "time_proj.weight" || name == "class_embedding.weight" => ParamRole::Embedding,
            _ if name.ends_with(".bias") => ParamRole::Bias,
            1 => ParamRole::Norm,
            4 => ParamRole::Conv,
            _ => ParamRole::Dense,
        }
    }
}
