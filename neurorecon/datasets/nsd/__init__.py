"""The Natural Scenes Dataset (Allen et al. 2022), read from the folders as they are downloaded."""
