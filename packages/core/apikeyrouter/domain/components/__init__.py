"""The engines that users name: thin, state plus ports. Policy lives in the packages beside this one."""
