"""Arrays in the memory of a TPU's core cost no bandwidth; the text is as the compiler of TPUs writes it."""

from segjax.costs.hlo import devices_of, instructions
from segjax.costs.traffic import memory_traffic

TEXT = """HloModule jit_step, is_scheduled=true, num_partitions=4

%fused (p: f32[256]) -> f32[256] {
  %p = f32[256]{0:T(256)} parameter(0)
  ROOT %e = f32[256]{0:T(256)} exponential(%p)
}

%body (t: (s32[], f32[256])) -> (s32[], f32[256]) {
  %t = (s32[], f32[256]{0:T(256)}) parameter(0)
  %g = f32[256]{0:T(256)} get-tuple-element(%t), index=1
  %k = f32[256]{0:T(256)} fusion(%g), kind=kLoop, calls=%fused
  ROOT %u = (s32[], f32[256]{0:T(256)}) tuple(%t, %k)
}

ENTRY %main (x: f32[256], y: bf16[2,64]) -> f32[256] {
  %x = f32[256]{0:T(256)} parameter(0)
  %y = bf16[2,64]{1,0:T(8,128)(2,1)} parameter(1)
  %s = (f32[256]{0:T(256)S(1)}, f32[256]{0:T(256)}, u32[]{:S(2)}) copy-start(%x), cross_program_prefetch_index=0
  %d = f32[256]{0:T(256)S(1)} copy-done(%s)
  %z = ((bf16[2,64]{1,0:T(8,128)(2,1)}), bf16[1,64]{1,0:T(8,128)(2,1)S(1)}, s32[]) slice-start(%y), slice={[0:1]}
  %w = bf16[1,64]{1,0:T(8,128)(2,1)S(1)} slice-done(%z)
  %f = f32[256]{0:T(256)S(1)} fusion(%d, %w), kind=kLoop, calls=%fused
  %h = f32[256]{0:T(256)} fusion(%f), kind=kLoop, calls=%fused
  %i = (s32[], f32[256]{0:T(256)}) tuple(%h, %h)
  %l = (s32[], f32[256]{0:T(256)}) while(%i), condition=%c, body=%body, c={"known_trip_count":{"n":"3"}}
  ROOT %r = f32[256]{0:T(256)} get-tuple-element(%l), index=1
}
"""


def test_only_the_memory_of_the_device_counts():
    copied, sliced, written, loop = 1024, 128, 1024, 3 * (1024 + 1024)
    assert memory_traffic(TEXT) == copied + sliced + written + loop


def test_copies_to_the_memory_and_within_it():
    assert memory_traffic(TEXT.replace("copy-start(%x)", "copy-start(%f)")) == 128 + 1024 + 3 * 2048  # chip to chip
    within = TEXT.replace("%s = (f32[256]{0:T(256)S(1)}", "%s = (f32[256]{0:T(256)}")
    assert memory_traffic(within) == memory_traffic(TEXT) + 1024


def test_the_instructions_of_a_loop_run_as_often_and_those_of_a_fusion_have_no_memory():
    found = {one.name: one for one in instructions(TEXT)}
    assert devices_of(TEXT) == 4
    assert (found["k"].runs, found["k"].fused, found["f"].runs) == (3, False, 1)
    assert found["e"].fused and found["e"].runs == 5
    assert found["f"].operands == ("d", "w") and found["f"].arrays[0].on_chip and not found["h"].arrays[0].on_chip
    assert [str(array) for array in found["s"].arrays] == ["f32[256]", "f32[256]", "u32[]"]
