from catimage_tiny.recipe import ORDINARY_KINDS, Recipe


def test_scaling_keeps_everything_but_updates_scenes_and_batches():
    recipe, half = Recipe(), Recipe().scaled(0.5)
    assert half.parts["unet"].updates == 5375 and half.parts["unet"].batch_size == 512
    assert [s.scenes for s in half.scene_sets] == [19_968, 44_992, 12_032]
    assert half.parts["clip"].learning_rate == recipe.parts["clip"].learning_rate
    assert Recipe().scaled(1.0) == recipe


def test_the_smallest_scale_trains_every_part_once():
    recipe = Recipe().scaled(1e-9, max_batch_size=2)
    assert {part.updates for part in recipe.parts.values()} == {1}
    assert {part.batch_size for part in recipe.parts.values()} == {2}
    assert {s.pairs_per_chunk for s in recipe.scene_sets} == {1}


def test_generators_but_the_adapter_see_no_patterned_scene():
    scene_kinds = {s.name: s.scene_kinds for s in Recipe().scene_sets}
    assert scene_kinds["ordinary"] == ORDINARY_KINDS == ("simple", "middling", "crowded")
    assert scene_kinds["patterned"] == ("patterned",)
