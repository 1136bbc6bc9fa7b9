"""The page's TypeScript, as a house: no circle of imports, those of types alone included."""

import re
from graphlib import TopologicalSorter
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "web" / "src"


def test_no_file_of_the_page_imports_itself_by_way_of_others():
    graph = {}
    for file in SOURCE.rglob("*.ts"):
        named = re.findall(r'(?:from|import) "(\.[^"?]+)', file.read_text(encoding="utf-8"))
        graph[file] = {(file.parent / f"{name}.ts").resolve() for name in named if not name.endswith(".css")}
    assert len(graph) > 30
    assert graph[SOURCE / "mount.ts"] >= {SOURCE / "dom.ts", SOURCE / "panels" / "draw.ts"}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle
