// What every kernel shares: the batch of the call and the activations. The aliases of element types stand before this file.

struct Call {
    // Samples of this call; at most the capacity for which the arena was laid out.
    batch: u32,
}

@group(0) @binding(0) var<uniform> call: Call;

// Codes of `Activation`, as activation.rs numbers them.
const NONE = 0u;
const SILU = 1u;
const MISH = 2u;
const GELU = 3u;
const RELU = 4u;
const LEAKY_RELU = 5u;
const SIGMOID = 6u;
const TANH = 7u;
const SOFTPLUS = 8u;
const GELU_TANH = 9u;

fn sigmoid(v: vec4<f32>) -> vec4<f32> {
    // The bound keeps exp finite; below it the result is 0 in f32 anyway.
    return 1.0 / (1.0 + exp(-max(v, vec4<f32>(-87.0))));
}

fn hyperbolic_tangent(v: vec4<f32>) -> vec4<f32> {
    let e = exp(-2.0 * abs(v));
    return sign(v) * (1.0 - e) / (1.0 + e);
}

fn softplus(v: vec4<f32>) -> vec4<f32> {
    return max(v, vec4<f32>(0.0)) + log(1.0 + exp(-abs(v)));
}

// tanh(softplus(v)) without cancellation: with e = exp(v) it is (e^2 + 2 e) / (e^2 + 2 e + 2).
fn tanh_softplus(v: vec4<f32>) -> vec4<f32> {
    let e = exp(min(v, vec4<f32>(20.0)));
    let n = e * (e + 2.0);
    return n / (n + 2.0);
}

// Abramowitz and Stegun 7.1.26: within 1.5e-7.
fn error_function(v: vec4<f32>) -> vec4<f32> {
    let x = abs(v);
    let t = 1.0 / (1.0 + 0.3275911 * x);
    let p = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    return sign(v) * (1.0 - p * exp(-x * x));
}

fn normal_distribution(v: vec4<f32>) -> vec4<f32> {
    return 0.5 * (1.0 + error_function(v * 0.70710678118654752));
}

// Twice the argument of the tangent in the approximate GELU: (1 + tanh(u)) / 2 = sigmoid(2 u). Where it is bounded the value is 0 or v.
fn gelu_tanh_argument(v: vec4<f32>) -> vec4<f32> {
    let x = clamp(v, vec4<f32>(-12.0), vec4<f32>(12.0));
    return x * (1.5957691216057308 + 0.0713548162726009 * x * x);
}

fn activate(code: u32, slope: f32, v: vec4<f32>) -> vec4<f32> {
    switch code {
        case SILU: { return v * sigmoid(v); }
        case MISH: { return v * tanh_softplus(v); }
        case GELU: { return v * normal_distribution(v); }
        case RELU: { return max(v, vec4<f32>(0.0)); }
        case LEAKY_RELU: { return select(v * slope, v, v > vec4<f32>(0.0)); }
        case SIGMOID: { return sigmoid(v); }
        case TANH: { return hyperbolic_tangent(v); }
        case SOFTPLUS: { return softplus(v); }
        case GELU_TANH: { return v * sigmoid(gelu_tanh_argument(v)); }
        default: { return v; }
    }
}

// The derivative of `activate` at v.
fn derivative(code: u32, slope: f32, v: vec4<f32>) -> vec4<f32> {
    let s = sigmoid(v);
    switch code {
        case SILU: { return s * (1.0 + v * (1.0 - s)); }
        case MISH: {
            let t = tanh_softplus(v);
            return t + v * (1.0 - t * t) * s;
        }
        case GELU: { return normal_distribution(v) + v * 0.39894228040143268 * exp(-0.5 * v * v); }
        case RELU: { return select(vec4<f32>(0.0), vec4<f32>(1.0), v > vec4<f32>(0.0)); }
        case LEAKY_RELU: { return select(vec4<f32>(slope), vec4<f32>(1.0), v > vec4<f32>(0.0)); }
        case SIGMOID: { return s * (1.0 - s); }
        case TANH: {
            let t = hyperbolic_tangent(v);
            return 1.0 - t * t;
        }
        case SOFTPLUS: { return s; }
        case GELU_TANH: {
            let t = sigmoid(gelu_tanh_argument(v));
            let x = clamp(v, vec4<f32>(-12.0), vec4<f32>(12.0));
            return t + x * (1.5957691216057308 + 0.2140644488178027 * x * x) * t * (1.0 - t);
        }
        default: { return vec4<f32>(1.0); }
    }
}
