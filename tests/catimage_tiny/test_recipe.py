from catimage_tiny.recipe import ORDINARY_KINDS, Recipe


def test_scaling_changes_only_the_numbers_of_updates_and_scenes():
    recipe, half = Recipe(), Recipe().scaled(0.5)
    assert half.parts["unet"].updates == 5375 and half.parts["unet"].batch_size == 512
    assert [s.scenes for s in half.scene_sets] == [19_968, 44_992, 12_032]
    assert half.parts["clip"].learning_rate == recipe.parts["clip"].learning_rate
    assert Recipe().scaled(1.0) == recipe


def test_a_scale_near_zero_results_in_one_update_per_part():
    recipe = Recipe().scaled(1e-9, max_batch_size=2)
    assert {part.updates for part in recipe.parts.values()} == {1}
    assert {part.batch_size for part in recipe.parts.values()} == {2}
    assert {s.pairs_per_chunk for s in recipe.scene_sets} == {1}


def test_patterned_scenes_are_only_in_the_scene_sets_scenes_and_patterned():
    scene_kinds = {s.name: s.scene_kinds for s in Recipe().scene_sets}
    assert scene_kinds["ordinary"] == ORDINARY_KINDS == ("simple", "middling", "crowded")
    assert scene_kinds["patterned"] == ("patterned",)
