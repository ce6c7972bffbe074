"""What the commands of the policy share."""

from types import SimpleNamespace

from depthtok.commands.samples import member_names


def test_members_of_one_data_set_keep_names_of_their_own():
    """Norms and cached frames are kept by name: one name for two would mix them up."""
    stores = [SimpleNamespace(about={"dataset": name}) for name in ("libero", "bridge", "libero")]
    assert member_names(stores) == ["libero-1", "bridge", "libero-2"]
    assert member_names(stores[:2]) == ["libero", "bridge"]
