"""Rules of the merge, each with a change of one place that breaks it and the tests that must then fail."""

from __future__ import annotations

from typing import NamedTuple

STORIES = "tests/translation/test_stories.py"
ROWS = "tests/translation/test_rows.py"
MERGE = "tests/translation/test_merge.py"
ABSORPTION = "tests/translation/test_absorption.py"
TWINS = "tests/translation/test_twins.py"
FOUND = "tests/translation/test_found.py"
LINEAGE = "tests/translation/test_lineage.py"
RECORDS = "tests/translation/test_records.py"
BLOCKS = "tests/translation/test_merging_blocks.py"
APPEND = "tests/translation/test_merging_append.py"
RIGHTS = "tests/translation/test_rights.py"


class Breakage(NamedTuple):
    name: str  # what is so no more
    file: str
    old: str  # stands once in the file
    new: str
    caught_by: tuple[str, ...]  # all of these fail


BREAKAGES = [
    # -- directories form a tree -----------------------------------------------------------------------
    Breakage(
        "a cycle is not seen",
        "crdt/moves.py",
        "takes = not self._is_within(into, members)",
        "takes = True",
        (
            f"{ROWS}::test_row_9_two_directories_moved_into_each_other",
            f"{ROWS}::test_row_9_a_cycle_of_three",
            f"{ROWS}::test_row_9_a_skipped_move_is_settled_by_the_next_one",
        ),
    ),
    Breakage(
        "late moves leave in effect what was moved after them",
        "crdt/moves.py",
        "for row in self.state.store.scan(first, LOG_END):",
        "for row in self.state.store.scan(LOG_END, LOG_END):",
        (f"{ROWS}::test_row_9_two_directories_moved_into_each_other",),
    ),
    Breakage(
        "what was undone for late moves is not done again",
        "crdt/moves.py",
        "if self._undo(first) else",
        "if not self._undo(first) else",
        (
            f"{ROWS}::test_row_4_both_directories_keep_their_content",
            f"{ROWS}::test_row_6_two_renames_of_a_directory_leave_one_with_all_inside",
        ),
    ),
    Breakage(
        "late moves are done before the others, not in the order of stamps",
        "crdt/moves.py",
        "            while next_key <= key:\n",
        "            while next_move:\n",
        (f"{ROWS}::test_row_9_a_cycle_of_three",),
    ),
    Breakage(
        "a renaming within one directory cannot make a cycle",
        "crdt/moves.py",
        "takes = not self._is_within(",
        "takes = any(left.directory == move[PARENT] for _, move, _ in group"
        " for left in stamped_of(move).fact.left) or not self._is_within(",
        (f"{STORIES}::test_a_rename_within_a_move_that_is_skipped_is_skipped",),
    ),
    Breakage(
        "what one commit moves goes one by one",
        "crdt/moves.py",
        "yield from (list(group) for _, group in groupby(moves, _target))",
        "yield from ([move] for move in moves)",
        (f"{STORIES}::test_a_union_is_not_torn",),
    ),
    Breakage(
        "a clock follows its own time alone",
        "crdt/hlc.py",
        "return max(latest + 1, ",
        "return max(1, ",
        (f"{STORIES}::test_a_rename_that_saw_another_wins_with_a_slow_clock",),
    ),
    # -- what a fact covers ----------------------------------------------------------------------------
    Breakage(
        "a removal covers the last placement, not what that had replaced",
        "crdt/rows.py",
        "return context_with(placement.fact.context, None if placement.fact.split else placement.dot)",
        "return context_with((), None if placement.fact.split else placement.dot)",
        (f"{STORIES}::test_a_removal_covers_what_was_never_sent",),
    ),
    Breakage(
        "a placement covers concurrent ones, not what these had replaced",
        "crdt/rows.py",
        "            for dot in placement.fact.context:\n",
        "            for dot in ():\n",
        (f"{ROWS}::test_row_17_a_removal_covers_what_concurrent_renames_had_replaced",),
    ),
    Breakage(
        "renaming an entry does not replace the placement of a split",
        "translation/namespace.py",
        "entry.ino, link, home, name, over_split=True, rank=rank",
        "entry.ino, link, home, name, rank=rank",
        (f"{STORIES}::test_a_rename_beats_a_later_split",),
    ),
    # -- what is alive ---------------------------------------------------------------------------------
    Breakage(
        "a removal takes away what it had not seen",
        "crdt/rows.py",
        "found = [removal.stamp for removal in self.removals if is_replaced(placement, removal.fact)]",
        "found = [removal.stamp for removal in self.removals]",
        (
            f"{ROWS}::test_row_12_rm_r_and_a_rename_out_of_the_directory",
            f"{ROWS}::test_row_17_a_rename_beats_a_removal",
        ),
    ),
    Breakage(
        "an edit does not beat a removal",
        "crdt/visible.py",
        "    if left and not has_seen(state, inode, left):",
        "    if not left and not has_seen(state, inode, left):",
        (
            f"{STORIES}::test_an_edit_beats_a_removal_that_did_not_see_it",
            f"{ROWS}::test_row_11_rm_r_and_a_rename_of_the_directory",
            f"{ROWS}::test_row_31_edits_inside_what_was_removed_long_ago_come_back_with_their_directories",
        ),
    ),
    Breakage(
        "a file whose names were removed one by one is gone",
        "crdt/visible.py",
        "return Visible((), bool(left))",
        "return Visible(())",
        (f"{STORIES}::test_the_last_two_names_removed_at_once_leave_an_orphan",),
    ),
    Breakage(
        "a removed directory does not show for what is inside",
        "crdt/view.py",
        "(inode.is_live() or self.state.counts(ino).items)",
        "inode.is_live()",
        (
            f"{STORIES}::test_a_directory_stays_when_the_last_thing_leaves_it",
            f"{ROWS}::test_row_31_edits_inside_what_was_removed_long_ago_come_back_with_their_directories",
        ),
    ),
    Breakage(
        "a removed directory goes with the last thing inside",
        "translation/locality.py",
        "            return self.intents.place_again(inode, LinkId(entry.ino), entry.raw)",
        "            return []",
        (f"{STORIES}::test_a_directory_stays_when_the_last_thing_leaves_it",),
    ),
    Breakage(
        "the name that a split makes keeps its file",
        "crdt/versions.py",
        "any(not p.fact.split for link",
        "any(True for link",
        (f"{ROWS}::test_row_16_a_removal_beats_a_chmod_of_what_is_a_conflict_entry_elsewhere",),
    ),
    Breakage(
        "removing an entry leaves the name that a split makes of it elsewhere",
        "translation/namespace.py",
        "            over_split=True,\n            seen=",
        "            seen=",
        (f"{STORIES}::test_a_removed_entry_does_not_stay_for_a_link_to_it",),
    ),
    Breakage(
        "a choice counts as an edit",
        "crdt/versions.py",
        "return head.settles and _is_settlement_of_dropped(state, inode, head.ref)",
        "return False",
        (f"{STORIES}::test_a_choice_does_not_undo_a_removal",),
    ),
    # -- which content shows ---------------------------------------------------------------------------
    Breakage(
        "of two branches the one whose first version is older leads",
        "crdt/versions.py",
        "    return 1 if found.left > found.right else -1\n",
        "    return 1 if found.left < found.right else -1\n",
        (
            f"{ROWS}::test_row_21_two_writes_are_both_kept_whole",
            f"{ROWS}::test_row_7_two_saves_by_rename_are_a_content_conflict",
        ),
    ),
    Breakage(
        "of two branches the one that was edited last leads",
        "crdt/versions.py",
        "return order(forks.of(a.ref, b.ref))",
        "return 1 if a.stamp > b.stamp else -1",
        (f"{STORIES}::test_an_edit_leaves_the_name_of_a_conflict_entry",),
    ),
    Breakage(
        "a version settles nothing",
        "crdt/heads.py",
        "for parent in version.parents[1:]:",
        "for parent in version.parents[:0]:",
        (
            f"{MERGE}::test_removing_a_conflict_entry_settles_it",
            f"{MERGE}::test_a_conflict_entry_keeps_its_name_when_the_file_is_removed",
        ),
    ),
    Breakage(
        "the same choice made twice is two",
        "translation/intent.py",
        "number = _choice(parents) if settles else VersionId(moment.dot)",
        "number = VersionId(moment.dot)",
        (f"{STORIES}::test_the_same_choice_made_twice_is_one",),
    ),
    Breakage(
        "who removes one of several files means its content to be gone",
        "translation/namespace.py",
        "return [version, *self._remove_file(entry), *twins]",
        "return [version, *self._remove_file(entry, self.seen_heads(inode)), *twins]",
        (f"{STORIES}::test_opposite_choices_lose_nothing",),
    ),
    Breakage(
        "a pinned entry is no alternative any more",
        "translation/intent.py",
        "beside = [*self.view.group(members, origin), *self.view.pinned(members, origin)]",
        "beside = [*self.view.group(members, origin)]",
        (f"{STORIES}::test_each_leaves_one_of_three",),
    ),
    Breakage(
        "a choice is made over content that nobody here was shown",
        "translation/intent.py",
        "return next((head.here.ref for head in (*beside, *owner.heads) if head.ref == ref), ref)",
        "return ref",
        (f"{FOUND}::test_who_removes_an_entry_has_not_seen_the_content_whose_blocks_are_not_here",),
    ),
    Breakage(
        "a branch that forks from an older version has the blocks of the newer",
        "crdt/head_maps.py",
        "                copy.restore(undo[8:])",
        "                pass",
        (
            f"{MERGE}::test_forks_of_large_files_share_what_they_share",
            f"{ROWS}::test_row_22_writes_to_different_blocks_are_not_mixed",
        ),
    ),
    Breakage(
        "equal contents are a conflict",
        "crdt/absorption.py",
        "    if not adds_nothing(state, end, shown, common):\n",
        "    if True:\n",
        (f"{STORIES}::test_the_same_content_written_twice_is_no_conflict",),
    ),
    Breakage(
        "contents are compared with what shows, not with what the other branch has had",
        "crdt/absorption.py",
        "in_history = any(compared_at(state, ref) == mine for ref in since)",
        "in_history = mine == theirs",
        (f"{STORIES}::test_superseded_versions_still_tell_what_a_branch_contained",),
    ),
    Breakage(
        "a choice hides where the other branch has had what was chosen",
        "crdt/absorption.py",
        "    if mine != theirs and _was_chosen_over(",
        "    if mine is theirs and _was_chosen_over(",
        (
            f"{ABSORPTION}::test_a_content_that_was_chosen_over_a_branch_is_news_though_that_branch_has_had_it",
        ),
    ),
    Breakage(
        "a branch is compared with any other, not with the one it forked from last",
        "crdt/absorption.py",
        "for other, stamp in stamps.items() if stamp == nearest}",
        "for other, stamp in stamps.items()}",
        (f"{ABSORPTION}::test_of_three_the_nearest_fork_counts",),
    ),
    Breakage(
        "a file that is made where one was removed has no past",
        "translation/namespace.py",
        "lineage=None if gone is None else gone.version,",
        "lineage=None,",
        (f"{STORIES}::test_a_file_continues_the_one_removed_at_its_name",),
    ),
    Breakage(
        "what is saved by rename was chosen over what it replaced",
        "crdt/absorption.py",
        "if parent == stored.fact.lineage or compared_at(",
        "if compared_at(",
        (f"{LINEAGE}::test_a_save_by_rename_is_no_choice_over_the_past_that_it_shares",),
    ),
    Breakage(
        "a backup is removed like any other file",
        "translation/namespace.py",
        "        if replaced_late:\n",
        "        if replaced_late and inode.is_directory:\n",
        (
            f"{LINEAGE}::test_a_file_replaces_the_old_one_with_the_removal_of_the_backup_and_not_before",
            f"{LINEAGE}::test_an_edit_that_came_to_the_backup_is_left_as_an_orphan",
        ),
    ),
    Breakage(
        "a backup that was removed comes back at its own name",
        "translation/lineage.py",
        "inode, link, stood.home, stood.name, rank",
        "inode, link, entry.parent, entry.name, rank",
        (f"{LINEAGE}::test_an_edit_of_the_old_file_has_the_past_that_it_had_before",),
    ),
    Breakage(
        "what was appended is no reason to show two contents as one",
        "crdt/merging.py",
        "self.policy == Policy.APPEND and stored.fact.appends is None",
        "self.policy == Policy.APPEND",
        (f"{STORIES}::test_a_log_keeps_all_records_in_one_order",),
    ),
    # -- names -----------------------------------------------------------------------------------------
    Breakage(
        "a request does not look at the names beside those it changes",
        "translation/locality.py",
        "names = transaction.contested() | self._left(transaction)",
        "names: set[NameKey] = set()",
        (
            f"{STORIES}::test_a_conflict_entry_does_not_take_a_name_that_becomes_free",
            f"{MERGE}::test_all_names_that_were_listed_can_be_removed_or_moved_in_any_order",
        ),
    ),
    Breakage(
        "a conflict entry is named after the newest version of its branch",
        "crdt/names.py",
        "                top.stamp.dot,",
        "                head.dot,",
        (f"{STORIES}::test_an_edit_leaves_the_name_of_a_conflict_entry",),
    ),
    Breakage(
        "a file that lost its name is named after who placed it",
        "crdt/names.py",
        "            if claim is not claims[0]:\n",
        "            if claim not in claims:\n",
        (f"{STORIES}::test_a_conflict_entry_names_who_made_it",),
    ),
    Breakage(
        "what is saved by rename has no past",
        "translation/namespace.py",
        "            lineage = seen\n",
        "            lineage = None\n",
        (f"{STORIES}::test_a_conflict_entry_names_who_made_it",),
    ),
    Breakage(
        "what is saved by rename claims the name anew",
        "translation/lineage.py",
        "return placed.fact.rank or placed.stamp",
        "return None",
        (f"{STORIES}::test_saving_by_rename_takes_no_name_from_another_file",),
    ),
    Breakage(
        "of twins only the one that shows is changed",
        "translation/twins.py",
        "        if self.view.twins(inode.ino) == {inode.ino}:",
        "        if inode.ino in self.view.twins(inode.ino):",
        (f"{TWINS}::test_a_twin_with_another_name_keeps_it_when_they_part",),
    ),
    Breakage(
        "of twins the one with the best claim shows, not the oldest",
        "crdt/claims.py",
        "other_first = (other.age, other.link) < (self.age, self.link)",
        "other_first = compare_claims(other, self) > 0",
        (f"{STORIES}::test_twins_keep_their_hard_links_together",),
    ),
    # -- unions ----------------------------------------------------------------------------------------
    Breakage(
        "directories made at one name are strangers",
        "crdt/names.py",
        "    if a.fact.native and b.fact.native:\n",
        "    if a is b:\n",
        (
            f"{ROWS}::test_row_2_two_directories_of_one_name_are_one",
            f"{ROWS}::test_unions_meet_inside_unions",
        ),
    ),
    Breakage(
        "a union that is renamed is many",
        "translation/namespace.py",
        "mates = entry.members if len(entry.members) > 1 else ()",
        "mates = ()",
        (f"{ROWS}::test_row_2_two_directories_of_one_name_are_one",),
    ),
    Breakage(
        "the oldest member leads a union, also when it was removed",
        "crdt/names.py",
        "union.sort(key=lambda ino: (not rows[ino].is_live(), rows[ino].stamp))",
        "union.sort(key=lambda ino: rows[ino].stamp)",
        (f"{STORIES}::test_a_dead_member_does_not_lead_a_union",),
    ),
    Breakage(
        "what is made in a union goes to its lead",
        "translation/intent.py",
        "                if replica_of(member) == self.replica.replica and",
        "                if not member and",
        (f"{STORIES}::test_what_was_put_into_a_directory_stays_with_it",),
    ),
    Breakage(
        "a union has the mode of its lead",
        "translation/attributes.py",
        "        for row in rows:\n            bits &= row.mode\n        lead = rows[0]",
        "        bits &= rows[0].mode\n        lead = rows[0]",
        (f"{STORIES}::test_a_union_shows_the_bits_that_all_members_leave",),
    ),
    # -- attributes ------------------------------------------------------------------------------------
    Breakage(
        "concurrent modes add up",
        "crdt/rows.py",
        "                bits &= other.fact.value\n",
        "                bits |= other.fact.value\n",
        (f"{ROWS}::test_row_14_concurrent_modes_show_what_both_leave",),
    ),
    Breakage(
        "set-user-id shows with a content that who set it had not seen",
        "crdt/rights.py",
        "        if is_written(stored):\n            return False\n",
        "        if is_written(stored):\n            return True\n",
        (f"{RIGHTS}::test_row_14_set_user_id_does_not_show_with_a_content_that_who_set_it_had_not_seen",),
    ),
    # -- records of what was overruled -----------------------------------------------------------------
    Breakage(
        "a write before a change of mode that had seen it is as one that it had not seen",
        "crdt/rights.py",
        "unheard = [value for value in unheard if not has_seen(value, stored)]",
        "pass",
        (f"{RIGHTS}::test_a_right_that_is_taken_after_a_write_was_seen_is_no_record",),
    ),
    Breakage(
        "what is placed anew where it stands is taken for a rename",
        "crdt/records.py",
        "if not fact.left or (",
        "if (",
        (f"{RECORDS}::test_placing_a_directory_anew_where_it_stands_is_no_rename",),
    ),
    Breakage(
        "an acknowledgement is of all that is overruled of a file",
        "crdt/records.py",
        'bytes([kind]) + dot.to_bytes(8, "big")',
        'b""',
        (f"{RECORDS}::test_what_was_overruled_unheard_of_is_not_acknowledged",),
    ),
    # -- merge policies --------------------------------------------------------------------------------
    Breakage(
        "blocks that two wrote do not show together",
        "crdt/merging.py",
        "return policy == Policy.BLOCKS or _Walk",
        "return policy == Policy.APPEND and _Walk",
        (
            f"{BLOCKS}::test_row_21_of_one_block_that_two_wrote_the_newest_shows",
            f"{BLOCKS}::test_row_22_blocks_that_two_wrote_at_once_are_one_file",
        ),
    ),
    Breakage(
        "a truncation writes no holes",
        "crdt/merging.py",
        "if cut < seen:",
        "if cut < 0:",
        (f"{BLOCKS}::test_row_23_what_was_written_where_it_was_cut_shows_if_it_is_newer",),
    ),
    Breakage(
        "who only merged has written",
        "crdt/merging.py",
        "        if is_merging(version, Policy.BLOCKS):\n            return\n",
        "",
        (f"{BLOCKS}::test_a_third_who_overwrites_what_one_of_them_wrote_wins_over_who_only_merged_it",),
    ),
    Breakage(
        "an append is a write like any other",
        "translation/content.py",
        "fields = fields._replace(appends=session.appended_to(self.base, fields))",
        "pass",
        (
            f"{APPEND}::test_row_24_tails_that_two_appended_at_once_are_kept_in_one_order",
            f"{STORIES}::test_a_log_keeps_all_records_in_one_order",
        ),
    ),
]
