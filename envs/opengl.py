"""Opens an off-screen OpenGL context without any Python OpenGL package: EGL, else OSMesa, else the OSMesa inside a wheel."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import glob
import hashlib
import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

OVERRIDE_VARIABLE = "OPENTAU_GL"
"""Environment variable that forces one of `BACKENDS`."""
CACHE_VARIABLE = "OPENTAU_CACHE"
"""Environment variable that moves the cache folder."""
WHEEL_FOLDER = "lavavu_osmesa.libs"
"""Where the wheel lavavu-osmesa keeps its shared libraries, beside the packages."""

_PROBE_TIMEOUT_S = 60.0
_SYSTEM_LIBRARY_FOLDERS = ("/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib")

_EGL_PLATFORM_DEVICE = 0x313F
_EGL_OPENGL_API = 0x30A2
_EGL_CONFIG = (0x3024, 8, 0x3023, 8, 0x3022, 8, 0x3025, 24, 0x3033, 1, 0x3040, 8, 0x3038)  # RGB 8, depth 24, pbuffer, OpenGL
_GL_VERSION = 0x1F02
_GL_RENDERER = 0x1F01
_GL_RGBA = 0x1908
_GL_UNSIGNED_BYTE = 0x1401

Pointer = ctypes.c_void_p


class Context(Protocol):
    """An OpenGL context that draws nowhere by itself; MuJoCo brings its own frame buffers."""

    def make_current(self) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendDescription:
    """Which OpenGL is used, and why."""

    name: str
    """One of `BACKENDS`."""
    gl_version: str
    """As the driver says it, for example '4.5 (Compatibility Profile) Mesa 22.3.6'."""
    gl_renderer: str
    """For example 'llvmpipe (LLVM 15.0.6, 256 bits)'."""
    reason: str
    """Why this one: what was asked for, or what was tried before it."""

    @property
    def id(self) -> str:
        """Identity for evaluation specs: frames are equal only for an equal id."""
        return f"{self.name}: {self.gl_version}, {self.gl_renderer}"

    def __str__(self) -> str:
        return f"{self.id} ({self.reason})"


def cache_folder() -> Path:
    """Return the project's cache folder; it may not exist yet."""
    configured = os.environ.get(CACHE_VARIABLE)
    return Path(configured).expanduser() if configured else Path.home() / ".cache" / "opentau"


def _function(address: int | None, name: str, result: type | None, *arguments: type) -> Callable:
    if not address:
        raise OSError(f"the library has no function {name}")
    return ctypes.CFUNCTYPE(result, *arguments)(address)


class EglContext:
    """A surfaceless EGL context on the first device that works (a GPU, or Mesa's software driver)."""

    def __init__(self) -> None:
        self._library, self._display = _egl()
        config, count = Pointer(), ctypes.c_int()
        attributes = (ctypes.c_int * len(_EGL_CONFIG))(*_EGL_CONFIG)
        self._library.eglChooseConfig(self._display, attributes, ctypes.byref(config), 1, ctypes.byref(count))
        self._library.eglBindAPI(_EGL_OPENGL_API)
        self._context = self._library.eglCreateContext(self._display, config, None, None) if count.value else None
        if not self._context:
            raise OSError("EGL offers no OpenGL configuration with 8-bit colours and 24-bit depth")

    def make_current(self) -> None:
        if not self._library.eglMakeCurrent(self._display, None, None, self._context):
            raise RuntimeError("the EGL context cannot be made current; was it closed?")

    def close(self) -> None:
        if self._context:
            self._library.eglMakeCurrent(self._display, None, None, None)
            self._library.eglDestroyContext(self._display, self._context)
            self._context = None


@functools.cache
def _egl() -> tuple[ctypes.CDLL, int]:
    """Load libEGL and return it with an initialised display."""
    library = ctypes.CDLL("libEGL.so.1", mode=ctypes.RTLD_GLOBAL)
    for name, result, arguments in (
        ("eglGetProcAddress", Pointer, [ctypes.c_char_p]),
        ("eglInitialize", ctypes.c_uint, [Pointer, Pointer, Pointer]),
        ("eglChooseConfig", ctypes.c_uint, [Pointer, Pointer, Pointer, ctypes.c_int, Pointer]),
        ("eglBindAPI", ctypes.c_uint, [ctypes.c_uint]),
        ("eglCreateContext", Pointer, [Pointer, Pointer, Pointer, Pointer]),
        ("eglMakeCurrent", ctypes.c_uint, [Pointer, Pointer, Pointer, Pointer]),
        ("eglDestroyContext", ctypes.c_uint, [Pointer, Pointer]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    devices, count = (Pointer * 16)(), ctypes.c_int()
    address = library.eglGetProcAddress(b"eglQueryDevicesEXT")
    query = _function(address, "eglQueryDevicesEXT", ctypes.c_uint, ctypes.c_int, Pointer, Pointer)
    query(len(devices), devices, ctypes.byref(count))
    address = library.eglGetProcAddress(b"eglGetPlatformDisplayEXT")
    get_display = _function(address, "eglGetPlatformDisplayEXT", Pointer, ctypes.c_uint, Pointer, Pointer)
    for device in devices[: count.value]:
        display = get_display(_EGL_PLATFORM_DEVICE, device, None)
        if display and library.eglInitialize(display, None, None):
            return library, display
    raise OSError(f"none of the {count.value} EGL devices can be initialised")


class OsmesaContext:
    """An off-screen Mesa context, from the system's library or from the wheel's."""

    def __init__(self, load: Callable[[], ctypes.CDLL]) -> None:
        self._library = load()
        self._context = self._library.OSMesaCreateContextExt(_GL_RGBA, 24, 8, 0, None)
        if not self._context:
            raise OSError("OSMesa cannot create a context")
        self._pixels = (ctypes.c_ubyte * (4 * 16 * 16))()

    def make_current(self) -> None:
        if not self._library.OSMesaMakeCurrent(self._context, self._pixels, _GL_UNSIGNED_BYTE, 16, 16):
            raise RuntimeError("the OSMesa context cannot be made current; was it closed?")

    def close(self) -> None:
        if self._context:
            self._library.OSMesaDestroyContext(self._context)
            self._context = None


def _declare_osmesa(library: ctypes.CDLL) -> ctypes.CDLL:
    library.OSMesaCreateContextExt.restype = Pointer
    library.OSMesaCreateContextExt.argtypes = [ctypes.c_uint, ctypes.c_int, ctypes.c_int, ctypes.c_int, Pointer]
    library.OSMesaMakeCurrent.argtypes = [Pointer, Pointer, ctypes.c_uint, ctypes.c_int, ctypes.c_int]
    library.OSMesaDestroyContext.argtypes = [Pointer]
    library.OSMesaGetProcAddress.restype = Pointer
    library.OSMesaGetProcAddress.argtypes = [ctypes.c_char_p]
    return library


@functools.cache
def _system_osmesa() -> ctypes.CDLL:
    return _declare_osmesa(ctypes.CDLL("libOSMesa.so.8", mode=ctypes.RTLD_GLOBAL))


@functools.cache
def _wheel_osmesa() -> ctypes.CDLL:
    """Load the wheel's libraries by full path; each pass loads those whose dependencies are there already."""
    folder = Path(sysconfig.get_paths()["platlib"]) / WHEEL_FOLDER
    waiting = sorted(path for path in glob.glob(f"{glob.escape(str(folder))}/lib*") if not os.path.islink(path))
    if not waiting:
        raise OSError("the wheel lavavu-osmesa is not installed")
    library: ctypes.CDLL | None = None
    while waiting:
        failed = []
        for path in waiting:
            try:
                loaded = ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
            except OSError:
                failed.append(path)
                continue
            if Path(path).name.startswith("libOSMesa"):
                library = loaded
        if len(failed) == len(waiting):
            raise OSError(f"{Path(failed[0]).name} of the wheel lavavu-osmesa cannot be loaded")
        waiting = failed
    if library is None:
        raise OSError("the wheel lavavu-osmesa holds no libOSMesa")
    return _declare_osmesa(library)


_CONTEXTS: dict[str, Callable[[], Context]] = {
    "egl": EglContext,
    "osmesa": lambda: OsmesaContext(_system_osmesa),
    "osmesa-wheel": lambda: OsmesaContext(_wheel_osmesa),
}
BACKENDS = tuple(_CONTEXTS)
"""Known backends in order of preference."""


def _gl_string(backend: str, name: int) -> str:
    """Return a string of the current context, e.g. its version."""
    get_address = _egl()[0].eglGetProcAddress if backend == "egl" else None
    if get_address is None:
        get_address = (_system_osmesa() if backend == "osmesa" else _wheel_osmesa()).OSMesaGetProcAddress
    text = _function(get_address(b"glGetString"), "glGetString", ctypes.c_char_p, ctypes.c_uint)(name)
    return text.decode() if text else "unknown"


def open_context() -> Context:
    """Open a context of the backend that `describe_backend` names.

    Raises RuntimeError with the fix when no backend works.
    """
    # Mesa's software driver starts one thread per core; a simulator keeps to one.
    os.environ.setdefault("LP_NUM_THREADS", "0")
    return _CONTEXTS[describe_backend().name]()


@functools.cache
def describe_backend() -> BackendDescription:
    """Return the OpenGL in use and why; tried out in subprocesses once per boot, then read from the cache folder.

    Raises RuntimeError with the fix when no backend works, or when OPENTAU_GL names an unknown or broken one.
    """
    forced = os.environ.get(OVERRIDE_VARIABLE, "").strip()
    if forced and forced not in BACKENDS:
        raise RuntimeError(f"{OVERRIDE_VARIABLE}={forced} is unknown; use one of {', '.join(BACKENDS)}, or unset it")
    candidates = (forced,) if forced else BACKENDS
    path = cache_folder() / "opengl" / f"{_machine_key(candidates)}.json"
    with contextlib.suppress(OSError, ValueError, TypeError):
        return BackendDescription(**json.loads(path.read_text()))
    description = _try_out(candidates)
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time, nothing else
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        partial.write_text(json.dumps(dataclasses.asdict(description)))
        partial.replace(path)
    return description


def _try_out(candidates: Iterable[str]) -> BackendDescription:
    failures: list[str] = []
    for backend in candidates:
        command = [sys.executable, "-P", str(Path(__file__).resolve()), backend]
        try:
            probe = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            failures.append(f"{backend} did not answer within {_PROBE_TIMEOUT_S:.0f} s")
            continue
        if probe.returncode == 0:
            found = json.loads(probe.stdout.splitlines()[-1])
            return BackendDescription(name=backend, reason="; ".join(failures) or "first choice", **found)
        failures.append(f"{backend}: {(probe.stderr.strip().splitlines() or ['crashed'])[-1]}")
    raise RuntimeError(
        "no OpenGL works for rendering (" + "; ".join(failures) + "). Install the wheel lavavu-osmesa (extra 'sim'), "
        "or with root: apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri"
    )


def _machine_key(candidates: Iterable[str]) -> str:
    """Return a hash of everything that the choice depends on: the boot, the libraries, and the interpreter."""
    folders = [*os.environ.get("LD_LIBRARY_PATH", "").split(":"), *_SYSTEM_LIBRARY_FOLDERS]
    folders.append(os.path.join(sysconfig.get_paths()["platlib"], WHEEL_FOLDER))
    key: list[object] = [sys.executable, *candidates]
    key += [os.environ.get(name, "") for name in ("LIBGL_ALWAYS_SOFTWARE", "GALLIUM_DRIVER", "CUDA_VISIBLE_DEVICES")]
    with contextlib.suppress(OSError):
        key.append(Path("/proc/sys/kernel/random/boot_id").read_text())
    for folder in filter(None, folders):
        for path in sorted(glob.glob(f"{glob.escape(folder)}/lib[EGO][GLS]*")):
            with contextlib.suppress(OSError):
                stat = os.stat(path)
                key += [path, stat.st_size, stat.st_mtime_ns, stat.st_rdev]
    return hashlib.sha256(repr(key).encode()).hexdigest()[:24]


def _draw_a_ball() -> None:
    """Draw a red ball in the current context; raises OSError when the centre pixel is not red."""
    os.environ["MUJOCO_GL"] = "disable"
    import mujoco  # here, because only a probe draws without the renderer
    import numpy as np

    model = mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody><light pos='0 -2 1'/><geom type='sphere' size='0.2' rgba='1 0 0 1'/>"
        "<camera name='front' pos='0 -1 0' xyaxes='1 0 0 0 0 1'/></worldbody></mujoco>"
    )
    data, scene = mujoco.MjData(model), mujoco.MjvScene(model, 10)
    mujoco.mj_forward(model, data)
    drawing = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
    mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, drawing)
    camera = mujoco.MjvCamera()
    camera.type, camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, 0
    everything = mujoco.mjtCatBit.mjCAT_ALL
    mujoco.mjv_updateScene(model, data, mujoco.MjvOption(), None, camera, everything, scene)
    pixels, rectangle = np.zeros((16, 16, 3), np.uint8), mujoco.MjrRect(0, 0, 16, 16)
    mujoco.mjr_render(rectangle, scene, drawing)
    mujoco.mjr_readPixels(pixels, None, rectangle, drawing)
    drawing.free()
    red, green, _ = pixels[8, 8]
    if not red > 50 + green:
        raise OSError(f"a red ball came out as {pixels[8, 8].tolist()}")


def _probe(backend: str) -> None:
    """Try one backend in this process and print what it is; the process may crash, which is why it is its own."""
    os.environ.setdefault("LP_NUM_THREADS", "0")
    context = _CONTEXTS[backend]()
    context.make_current()
    _draw_a_ball()
    print(json.dumps({"gl_version": _gl_string(backend, _GL_VERSION), "gl_renderer": _gl_string(backend, _GL_RENDERER)}))


if __name__ == "__main__":
    _probe(sys.argv[1])
