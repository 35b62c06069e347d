from slipway.report.blocks import TableCell, heads, passed, row


def test_cells_escape_what_they_show():
    cell = TableCell("<b>", "d", full='"<i>', value=1.5)

    assert cell.shown == "&lt;b&gt;"
    assert cell.attributes == ' class="d" title="&#34;&lt;i&gt;" data-value="1.5"'


def test_links_and_pills_escape_too():
    assert TableCell("<b>", link='a"b').shown == '<a href="a&#34;b">&lt;b&gt;</a>'
    assert TableCell("<b>", mark="ok").shown == '<span class="pill ok">&lt;b&gt;</span>'


def test_an_empty_cell_has_no_attributes():
    assert TableCell("x").attributes == ""


def test_a_row_is_a_name_and_numbers():
    assert [cell.kind for cell in row("load", "1", "2")] == ["", "n", "n"]
    assert [cell.kind for cell in heads("load", "rest", "grpc")] == ["", "n", "n"]


def test_passing_is_said_in_sign_word_and_colour():
    assert (passed(ok=True).text, passed(ok=True).mark) == ("✓ pass", "ok")
    assert (passed(ok=False).text, passed(ok=False).mark) == ("✕ fail", "bad")
