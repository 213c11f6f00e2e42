"""Settings of the documentation site: ``make docs`` and ``make docs-quick``.

Pages are Markdown (MyST). Three folders are written by the build and are not under version control: ``gallery``
(sphinx-gallery), ``api/generated`` (autosummary) and ``_build``. The environment variable ``NEURORECON_GALLERY`` says
what is executed: ``run`` (the scripts and the tutorial) or ``skip`` (nothing; the default, for quick builds).
"""

import functools
import importlib
import os
import re
import shutil
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(HERE)]

EXECUTE = os.environ.get("NEURORECON_GALLERY", "skip") == "run"

#: Scripts of the gallery that run at a time; they share the cores.
SCRIPTS = min(2, os.cpu_count() or 1)
if EXECUTE:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // SCRIPTS)))

import neurorecon  # noqa: E402  (after the number of threads is known)

project = "neurorecon"
author = "The neurorecon developers"
copyright = author
version = release = neurorecon.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_nb",
    "sphinx_gallery.gen_gallery",
    "sphinx_design",
    "sphinx_copybutton",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "gallery/*.json", "**/sg_execution_times.rst", "sg_execution_times.rst"]
nitpicky = True
smartquotes = False

# -- Markdown ---------------------------------------------------------------------------------------------------------

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
myst_links_external_new_tab = False
suppress_warnings = ["config.cache"]  # functions in sphinx_gallery_conf

nb_execution_mode = "cache" if EXECUTE else "off"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_output_stderr = "remove"  # progress bars

# -- API reference ----------------------------------------------------------------------------------------------------

autosummary_generate = True
autosummary_imported_members = False
autodoc_typehints = "none"  # docstrings say what types are
autodoc_member_order = "bysource"
toc_object_entries_show_parents = "hide"
autodoc_default_options = {
    "members": True,
    "show-inheritance": True,
    # Methods of our own base classes are shown with each class, those of other packages are not.
    "inherited-members": "BaseEstimator,MultiOutputMixin,RegressorMixin,TransformerMixin,BaseModel,tuple,Exception",
}
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
numpydoc_use_plots = False
# Classes of other packages, and our own base classes that are no part of the reference.
nitpick_ignore_regex = [
    ("py:.*", r"(?!neurorecon\.).*"),
]

# -- gallery ----------------------------------------------------------------------------------------------------------

#: Where the scripts write, and the store that they share.
RESULTS = HERE / "_build" / "gallery"
STORE = ROOT / "stores" / "scenes.icechunk"

#: Further arguments of scripts that would take longer than a page of documentation should: numbers of test images, or
#: first stages and a subject. ``make figures`` draws with all.
FEWER = {
    "plot_04_reconstructions": ["40"],
    "plot_05_first_stages": ["ridge,gru", "subj01"],
    "plot_06_audit": ["24", "cluster_k5"],
    "plot_08_ablation": ["40"],
    "plot_11_motion_shuffle_test": ["24"],
    "plot_13_brain_optimized": ["24"],
}

#: Figures of a block beyond these are left out; the folder of results has all of them.
MOST_FIGURES = 6


def script_arguments(gallery_conf, script):
    """Return the arguments of a script: its folder of results, the shared store, and less than all data."""
    stem = Path(script["src_file"]).stem
    script["began"], script["shown"] = time.time(), set()
    # Relative to the folder that scripts run in: what they print is published.
    paths = [os.path.relpath(path, ROOT / "analyses") for path in (RESULTS / stem, STORE)]
    return [*paths, *FEWER.get(stem, [])]


def written_figures(block, script, gallery_conf):
    """Show the figures that a block wrote, which are those of the paper, and not what matplotlib left open."""
    import matplotlib.pyplot as plt
    from sphinx_gallery.scrapers import figure_rst

    plt.close("all")
    folder, found = RESULTS / Path(script["src_file"]).stem, []
    for path in sorted(folder.rglob("*.png"), key=lambda path: (path.stat().st_mtime, path)):
        single = path.parent.name.endswith(("_images", "_trials")) or "parts" in path.parts
        if single or path in script["shown"] or path.stat().st_mtime < script["began"]:
            continue
        script["shown"].add(path)
        if len(found) < MOST_FIGURES:
            found.append(next(script["image_path_iterator"]))
            shutil.copy(path, found[-1])
    return figure_rst(found, gallery_conf["src_dir"])


def build_store(app):
    """Build the store of the gallery, if it is not there."""
    if EXECUTE:
        neurorecon.build(ROOT / "stores" / "scenes.toml", progress=False)


sphinx_gallery_conf = {
    "examples_dirs": str(ROOT / "analyses"),
    "gallery_dirs": "gallery",
    # The second script needs weights that are no part of the package.
    "filename_pattern": r"plot_(?!02)" if EXECUTE else r"^nothing$",
    "plot_gallery": EXECUTE,
    "abort_on_example_error": True,
    "parallel": SCRIPTS if EXECUTE and SCRIPTS > 1 else False,
    "remove_config_comments": True,
    "reset_argv": script_arguments,
    "image_scrapers": (written_figures,),
    "download_all_examples": False,
    "notebook_extensions": set(),
    "within_subsection_order": "FileNameSortKey",
}

# -- HTML -------------------------------------------------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = "neurorecon"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
# Pages without further pages below them need no navigation on the left.
SINGLE = ["index", "start", "contributing", "troubleshooting", "glossary", "citing", "changes"]
html_sidebars = {page: [] for page in SINGLE}
html_theme_options = {
    "show_prev_next": False,
    "navigation_with_keys": False,
    "header_links_before_dropdown": 6,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
    "navbar_align": "left",
    "secondary_sidebar_items": ["page-toc"],
}

# -- links to files outside this folder -------------------------------------------------------------------------------

#: Files of the repository that are pages of the site, by their path from the root.
PAGES = {
    "stores/README.md": "docs/recipes.md",
    "README.md": "docs/index.md",
    "analyses/README.md": "docs/gallery/index.rst",
}


def rewrite_links(app, docname, content):
    """Point links that work in the repository to pages of the site; name files that are no pages."""
    if docname.startswith(("gallery/", "api/generated/")):
        return
    folder = ROOT / "stores" if docname == "recipes" else (HERE / docname).parent

    def page(match):
        text, path, anchor = match.groups()
        name = os.path.relpath(folder / path, ROOT)
        if re.fullmatch(r"analyses/plot_\w+\.py", name):
            name = f"docs/gallery/{Path(name).stem}.rst"
        name = PAGES.get(name, name)
        if not name.startswith("docs/"):
            return f"{text} (`{name}`)"
        return f"[{text}]({os.path.relpath(ROOT / name, (HERE / docname).parent)}{anchor or ''})"

    content[0] = re.sub(r"(?<!!)\[([^\]\n]+)\]\(((?:\.\./)+[\w./-]+)(#[\w-]+)?\)", page, content[0])


def read_recipes(app, docname, content):
    """Show ``stores/README.md`` as a page."""
    if docname == "recipes":
        content[0] = (ROOT / "stores" / "README.md").read_text(encoding="utf-8")


def skip_member(app, what, name, thing, skip, options):
    """Leave out what scikit-learn gives to every estimator."""
    of_sklearn = str(getattr(thing, "__module__", "")).startswith("sklearn")
    return True if of_sklearn or re.fullmatch(r"set_\w+_request", name) else None


def find(target):
    """Return the object that a dotted name of the package leads to, and that of its class; None if there is none."""
    parts = target.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = parent = importlib.import_module(".".join(parts[:length]))
        except ImportError:
            continue
        for name in parts[length:]:
            if not hasattr(found, name) and name not in getattr(found, "__annotations__", {}):
                return None
            parent, found = found, getattr(found, name, None)
        return found, parent
    return None


@functools.cache
def pages_of_objects():
    """Return the name under which the reference lists each object, by the object's id."""
    listed = re.findall(r"^   ~([\w.]+)$", (HERE / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    return {id(find(name)[0]): name for name in listed}


def resolve_reference(app, env, node, contnode):
    """Resolve names of objects that the reference lists under another name; others that exist are not linked."""
    if node.get("refdomain") != "py" or not node["reftarget"].startswith("neurorecon."):
        return None
    found = find(node["reftarget"])
    if found is None:
        return None  # a warning
    for thing in found:
        name = pages_of_objects().get(id(thing))
        if name is not None:
            return env.get_domain("py").resolve_xref(env, node["refdoc"], app.builder, "obj", name, node, contnode)
    return contnode


def setup(app):
    """Connect the functions of this file."""
    app.connect("autodoc-skip-member", skip_member)
    app.connect("missing-reference", resolve_reference)
    app.connect("builder-inited", build_store, priority=100)
    app.connect("source-read", read_recipes)
    app.connect("source-read", rewrite_links)
