// The entry point of kernels that add up over a workgroup, without subgroup operations.

var<private> me: u32;
var<workgroup> sums: array<vec4<f32>, 256>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    me = local.x;
    body(group.x + group.y * grid.x);
}

// The sum over all invocations of the workgroup, for all of them.
fn total(v: vec4<f32>) -> vec4<f32> {
    sums[me] = v;
    workgroupBarrier();
    for (var width = 128u; width > 0u; width /= 2u) {
        if me < width {
            sums[me] += sums[me + width];
        }
        workgroupBarrier();
    }
    let all = sums[0];
    workgroupBarrier();
    return all;
}
