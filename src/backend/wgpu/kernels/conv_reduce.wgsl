// Adds the partial sums of a split convolution, always in the same order, and finishes it.

@group(0) @binding(6) var<storage, read_write> partial: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let i = (group.x + group.y * grid.x) * 256u + local.x;
    let count = call.batch * p.positions * p.columns;
    if i >= count {
        return;
    }
    var sum = vec4<f32>(0.0);
    for (var split = 0u; split < p.splits; split++) {
        sum += partial[split * count + i];
    }
    finish(i / p.columns, i % p.columns, sum);
}
