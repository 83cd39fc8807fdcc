// Reads a Surface Segmentation by GDCM and writes what it found: POINTS (float32 x, y, z) and INDICES (as stored).
// Usage: gdcm_surface_reader SURFACE.dcm POINTS NORMALS INDICES
#include <fstream>
#include <iostream>

#include <gdcmByteValue.h>
#include <gdcmSegment.h>
#include <gdcmSurface.h>
#include <gdcmSurfaceReader.h>

static bool dump(const gdcm::DataElement& element, const char* path) {
  const gdcm::ByteValue* bytes = element.GetByteValue();
  if (bytes == nullptr) return false;
  std::ofstream(path, std::ios::binary).write(bytes->GetPointer(), bytes->GetLength());
  return true;
}

int main(int count, char** arguments) {
  if (count != 5) return 2;
  gdcm::SurfaceReader reader;
  reader.SetFileName(arguments[1]);
  if (!reader.Read()) {
    std::cerr << "GDCM cannot read the surfaces\n";
    return 1;
  }
  if (reader.GetNumberOfSurfaces() != 1 || reader.GetSegments().size() != 1) {
    std::cerr << "not one surface of one segment\n";
    return 1;
  }
  gdcm::SmartPointer<gdcm::Surface> surface = reader.GetSegments()[0]->GetSurface(0);
  std::cout << surface->GetNumberOfSurfacePoints() << ' ' << surface->GetNumberOfVectors() << ' '
            << gdcm::MeshPrimitive::GetMPTypeString(surface->GetMeshPrimitive().GetPrimitiveType()) << ' '
            << surface->GetFiniteVolume() << ' ' << surface->GetManifold() << '\n';
  const bool complete = dump(surface->GetPointCoordinatesData(), arguments[2]) &&
                        dump(surface->GetVectorCoordinateData(), arguments[3]) &&
                        dump(surface->GetMeshPrimitive().GetPrimitiveData(), arguments[4]);
  return complete ? 0 : 1;
}
