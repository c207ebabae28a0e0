# Two cures for building with the ROS wheels from PyPI. On an ordinary ROS installation neither changes anything.

# The wheels have no setup.bash to source, so nothing has set the prefix in which ament's resource index is found.
if("$ENV{AMENT_PREFIX_PATH}" STREQUAL "")
  get_filename_component(prefix "${ament_cmake_DIR}/../../.." ABSOLUTE)
  set(ENV{AMENT_PREFIX_PATH} "${prefix}")
endif()

# The wheels export CMake targets with an include directory of the machine that built them
# (/opt/python/cp311-cp311/include/python3.11), and CMake refuses to link to a target whose include directories do
# not exist. This drops such directories from every imported target. It waits until the end of the CMakeLists.txt,
# because rosidl_generate_interfaces brings in more targets.
function(drop_missing_include_directories)
  get_directory_property(targets IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(directories ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(NOT directories)
      continue()
    endif()
    set(existing "")
    foreach(directory IN LISTS directories)
      # A generator expression ($<...>) is no path yet; CMake will check what it stands for.
      if(directory MATCHES "^\\$<" OR EXISTS "${directory}")
        list(APPEND existing "${directory}")
      endif()
    endforeach()
    set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${existing}")
  endforeach()
endfunction()

cmake_language(DEFER CALL drop_missing_include_directories)
