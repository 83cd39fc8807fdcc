-- Orthanc sends every CT series to dissm-node once nothing more of it has come for StableAge seconds.
-- "dissm" is the node's name in DicomModalities of Orthanc's configuration.
function OnStableSeries(seriesId, tags, metadata)
  if tags['Modality'] == 'CT' then
    RestApiPost('/modalities/dissm/store', '{"Asynchronous": true, "Resources": ["' .. seriesId .. '"]}')
  end
end
