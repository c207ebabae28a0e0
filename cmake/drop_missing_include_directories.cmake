# The ROS wheels on PyPI export CMake targets with an include directory of the machine that built them
# (/opt/python/cp311-cp311/include/python3.11), and CMake refuses to link to a target whose include directories do
# not exist. This drops those directories from every imported target. It waits until the end of the file, because
# rosidl_generate_interfaces brings in more targets. On an ordinary ROS installation it changes nothing.
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
