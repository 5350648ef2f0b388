"""Builds the worker in Cython.  gcheap must be installed: its .pxd files and headers are used."""
from Cython.Build import cythonize
from setuptools import Extension, setup

import gcheap

setup(ext_modules=cythonize(
    [Extension("ring", ["ring.pyx"], include_dirs=[gcheap.get_include()],
               extra_compile_args=["-std=gnu11"])],
    language_level=3))
