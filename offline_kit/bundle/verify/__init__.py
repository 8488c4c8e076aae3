"""Verify: is this bundle, or this kit, exactly what its lock says?"""
